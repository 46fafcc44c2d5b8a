"""Fetching VTAB-1k from a public mirror: download, check, unpack."""
