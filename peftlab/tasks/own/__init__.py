"""A reader's own images: read from wherever they are, audited, split, and made a task."""
