"""What was measured: the ledger of runs, statistics over them, tables, numbers that others published."""
