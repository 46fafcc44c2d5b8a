"""Where peftlab keeps things. Every place can be moved by an environment variable."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def data_root():
    """Real data in the VTAB-1k layout: $PEFTLAB_DATA, or None when it is not set."""
    value = os.environ.get("PEFTLAB_DATA")
    return Path(value).expanduser() if value else None


def cache_folder():
    """Synthetic tasks and downloads: $PEFTLAB_CACHE, by default data/ of the repository."""
    return Path(os.environ.get("PEFTLAB_CACHE", REPOSITORY / "data")).expanduser()


def runs_folder():
    """The ledger: $PEFTLAB_RUNS, by default runs/ of the repository."""
    return Path(os.environ.get("PEFTLAB_RUNS", REPOSITORY / "runs")).expanduser()
