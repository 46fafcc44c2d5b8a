"""Notebooks executed, rendered, checked and explained: reports, house rules, exercises."""
