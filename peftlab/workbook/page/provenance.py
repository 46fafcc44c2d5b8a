"""Where a page comes from: commit of the code, versions of libraries, machine, parameters."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from nbformat import NotebookNode

from ...common.paths import REPOSITORY

LIBRARIES = ("peftlab", "torch", "timm", "numpy", "pandas", "matplotlib", "seaborn")
_DIRTY = "-dirty"


def describe_commit() -> str:
    """The commit of the code that runs, as `git describe` says it, with -dirty where tracked files differ from it.

    Empty where there is no git, or where the code is no clone, as after `pip install`.
    """
    if not (REPOSITORY / ".git").exists():  # git would look further up, and find somebody else's repository
        return ""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--exclude=*", "--abbrev=12", f"--dirty={_DIRTY}"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def read_commit(commit: str) -> str:
    """A commit as a reader understands it.

    >>> read_commit("fabd3e28ee7f-dirty"), read_commit("")
    ('commit fabd3e28ee7f, with uncommitted changes', 'commit unknown: not run from a git clone')
    """
    if not commit:
        return "commit unknown: not run from a git clone"
    changes = ", with uncommitted changes" if commit.endswith(_DIRTY) else ""
    return f"commit {commit.removesuffix(_DIRTY)}{changes}"


def read_parameters(nb: NotebookNode) -> dict[str, Any]:
    """The parameters that an executed notebook was run with, as papermill noted them."""
    return dict(nb.metadata.get("papermill", {}).get("parameters", {}))


def describe_environment() -> str:
    """One line: library versions, Python, platform, processor or GPU."""
    import torch

    versions = [f"{name} {v}" for name in LIBRARIES if (v := _version(name))]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores, no GPU"
    system = f"{platform.system()} {platform.machine()}"
    return " · ".join([*versions, f"Python {platform.python_version()}", system, device])


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
