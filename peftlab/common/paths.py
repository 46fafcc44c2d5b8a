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

from .errors import PeftlabError

_PACKAGE = Path(__file__).resolve().parents[1]

INSTALLED = (_PACKAGE / "repository").is_dir()
"""Whether this package came as a wheel, which carries notebooks/, results/ and data/ along (see pyproject.toml)."""

REPOSITORY = _PACKAGE / "repository" if INSTALLED else _PACKAGE.parent
"""The repository, or what the wheel carries of it. Nothing is written here when installed."""


VARIABLES = ("PEFTLAB_DATA", "PEFTLAB_CACHE", "PEFTLAB_RUNS")


def expanded(path: str | Path) -> Path:
    """A path in which ~ and ~user are home folders. Raises PeftlabError for a user who has none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise PeftlabError(f"{path}: no home folder of such a user is known. Write the path in full") from None


def data_root() -> Path | None:
    """Real data in the VTAB-1k layout: $PEFTLAB_DATA, or None when it is not set."""
    return _named("PEFTLAB_DATA")


def cache_folder() -> Path:
    """Synthetic tasks and downloads: $PEFTLAB_CACHE, by default data/ of the repository or the user's cache."""
    default = platformdirs.user_cache_path("peftlab") if INSTALLED else REPOSITORY / "data"
    return _named("PEFTLAB_CACHE") or default


def runs_folder() -> Path:
    """The ledger: $PEFTLAB_RUNS, by default runs/ of the repository or of the current folder."""
    return _named("PEFTLAB_RUNS") or _here() / "runs"


def named_folders() -> dict[str, str]:
    """{variable: its folder, from the root} of those that are set: for a process that works in another folder."""
    return {variable: str(folder) for variable in VARIABLES if (folder := _named(variable))}


def lab_folder() -> Path:
    """The reader's own copy of the lessons: lab/ of the repository or of the current folder.

    >>> lab_folder().name
    'lab'
    """
    return _here() / "lab"


def _named(variable: str) -> Path | None:
    """The folder that a variable names, relative to the current one; None where it is not set, or empty."""
    value = os.environ.get(variable)
    return expanded(value).absolute() if value else None


def _here() -> Path:
    return Path.cwd() if INSTALLED else REPOSITORY
