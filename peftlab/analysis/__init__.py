"""What views and notebooks measure on models: attention, changes, clusters, costs, comparisons, shift, probes."""
