"""Where peftlab keeps things. What it makes can be moved by environment variables.

| | in a clone | installed from a wheel | moved by |
|---|---|---|---|
| notebooks, results, embedded models | folders of the repository | `repository/` inside the package | |
| drawn and downloaded data | data/ of the repository | the user's cache folder | `PEFTLAB_CACHE` |
| the ledger | runs/ of the repository | runs/ of the current folder | `PEFTLAB_RUNS` |
| a reader's copy of the lessons | lab/ of the repository | lab/ of the current folder | `peftlab lab DIR` |
"""

import os
from pathlib import Path

import platformdirs

_PACKAGE = Path(__file__).resolve().parents[1]

INSTALLED = (_PACKAGE / "repository").is_dir()
"""Whether this package came as a wheel, which carries notebooks/, results/ and data/ along (see pyproject.toml)."""

REPOSITORY = _PACKAGE / "repository" if INSTALLED else _PACKAGE.parent
"""The repository, or what the wheel carries of it. Nothing is written here when installed."""


def data_root() -> Path | None:
    """Real data in the VTAB-1k layout: $PEFTLAB_DATA, or None when it is not set."""
    value = os.environ.get("PEFTLAB_DATA")
    return Path(value).expanduser() if value else None


def cache_folder() -> Path:
    """Synthetic tasks and downloads: $PEFTLAB_CACHE, by default data/ of the repository or the user's cache."""
    default = platformdirs.user_cache_path("peftlab") if INSTALLED else REPOSITORY / "data"
    return Path(os.environ.get("PEFTLAB_CACHE", default)).expanduser()


def runs_folder() -> Path:
    """The ledger: $PEFTLAB_RUNS, by default runs/ of the repository or of the current folder."""
    return Path(os.environ.get("PEFTLAB_RUNS", _here() / "runs")).expanduser()


def lab_folder() -> Path:
    """The reader's own copy of the lessons: lab/ of the repository or of the current folder.

    >>> lab_folder().name
    'lab'
    """
    return _here() / "lab"


def _here() -> Path:
    return Path.cwd() if INSTALLED else REPOSITORY
