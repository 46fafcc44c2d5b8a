"""From a tuned model and a task to a run in the ledger: spec, precision, loop, fit, evaluation, sweeps."""
