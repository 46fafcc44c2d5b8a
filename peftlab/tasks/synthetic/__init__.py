"""Synthetic tasks: images drawn here from published generative factors. They are not VTAB."""
