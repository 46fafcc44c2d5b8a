"""Frozen Vision Transformers of timm: loading, their stages, how images are prepared, protocols."""
