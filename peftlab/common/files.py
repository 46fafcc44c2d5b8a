"""Files that survive a crash: written in a temporary folder, then renamed. Tensors: `tensors`."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError

from .errors import DataError, PeftlabError

OURS = "-peftlab"  # ends the names of temporary folders, so that a reader's own "book.part-chapters" is not swept
STALE = 3600  # seconds after which an unfinished file is taken for abandoned; writing one takes far less
LARGEST_JSON = 10_000_000  # bytes; what we write is far smaller


def require_writable(path: str | Path) -> None:
    """Raise PeftlabError where no file can be written: the folder is missing, or no file stands in its place."""
    path = Path(path)
    if not path.parent.is_dir():
        raise PeftlabError(f"{path}: there is no folder {path.parent} to write it into. Make it first")
    if path.exists() and not path.is_file():
        raise PeftlabError(f"{path}: is a folder or a device, not a file. Name another file to write")
    if not os.access(path.parent, os.W_OK):
        raise PeftlabError(f"{path}: its folder may not be written to. Name a file elsewhere")


def require_space(folder: str | Path, needed: int) -> None:
    """Raise PeftlabError unless the disk of a folder has `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        from tqdm import tqdm  # not at every start

        raise PeftlabError(
            f"{folder}: {tqdm.format_sizeof(needed)}B needed, the disk has {tqdm.format_sizeof(free)}B free. "
            "Free some space, or move the cache with PEFTLAB_CACHE"
        )


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A file in a temporary folder next to `path`, which it replaces in the end; the folder goes in any case.

    A folder, because its name is nobody else's, on other hosts that share the disk neither, and because save_file
    makes temporary files of its own.
    """
    path = Path(path)
    require_writable(path)
    with TemporaryDirectory(OURS, f"{path.name}.part-", path.parent) as folder:
        part = Path(folder) / path.name
        yield part
        _sync(part, os.O_RDWR)  # before the rename: a power cut between the two would leave an empty file
        os.replace(part, path)
    with contextlib.suppress(OSError):  # Windows opens no folders, and some network disks sync none
        _sync(path.parent, os.O_RDONLY)


def _sync(path: Path, mode: int) -> None:
    """Wait until the disk has what was written."""
    handle = os.open(path, mode)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep_parts(folder: str | Path, alone: bool = False) -> None:
    """Remove what killed processes left half-written in a folder, if it is older than an hour.

    alone: nobody else writes there, because the caller holds the folder's lock; then the fresh ones go, too.
    """
    for part in Path(folder).glob(f"*.part-????????{OURS}"):
        with contextlib.suppress(OSError):  # another process has swept it
            if alone or time.time() - part.stat().st_mtime > STALE:
                shutil.rmtree(part)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in one atomic step. Raises as `require_writable` does, and OSError for a full disk."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as JSON, as `write_text` does."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: str | Path) -> dict[str, Any]:
    """A file with one JSON object. Raises DataError, naming the file, where there is anything else or nothing."""
    path = Path(path)
    with reading(path, "JSON"):
        if path.stat().st_size > LARGEST_JSON:
            raise ValueError(f"larger than {LARGEST_JSON:,} bytes")
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError("not an object, {...}")
        return value


@contextlib.contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """What goes wrong in reading a file becomes one DataError. What is no file is not opened: a FIFO never ends."""
    try:
        if not path.is_file():
            raise ValueError("not a file" if path.exists() else "no such file")
        yield
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise DataError(
            f"{path}: cannot be read as {kind} ({error}). Put a good copy there, or make it anew"
        ) from None
