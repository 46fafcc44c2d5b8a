"""What views and notebooks measure on models: costs, attention, clusters, changes, shift, probes."""
