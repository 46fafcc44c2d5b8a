"""A folder of the cache, made once: by whoever comes first, whole or not at all."""

import os
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..common.errors import DataError

STALE = 3600  # seconds after which an unfinished folder is taken for abandoned; making one takes far less


def made_once(folder: Path, write: Callable[[Path], None]) -> None:
    """Make a folder by write(empty folder) unless it is there. Raises DataError where nothing can be written."""
    if not folder.is_dir():
        try:
            _make_aside(folder, write)
        except OSError as error:
            raise DataError(
                f"{folder}: cannot be written ({error}). Free some space, or set PEFTLAB_CACHE to a folder that you "
                "may write to"
            ) from error


def _make_aside(folder: Path, write: Callable[[Path], None]) -> None:
    """Write into a temporary sibling, then rename: whatever happens, `folder` is absent or complete."""
    for left in folder.parent.glob(f".{folder.name}.part-*"):  # of a process that was killed
        if time.time() - left.stat().st_mtime > STALE:
            shutil.rmtree(left, ignore_errors=True)
    part = folder.parent / f".{folder.name}.part-{secrets.token_hex(8)}"
    try:
        part.mkdir(parents=True)
        write(part)
        try:
            os.rename(part, folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster, and its files are the same
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
        with suppress(OSError):  # nothing was made, and the folder above is empty
            folder.parent.rmdir()
