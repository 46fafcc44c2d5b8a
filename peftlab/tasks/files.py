"""The files of a task: nothing but regular files is opened, and a file is hashed again only where it has changed."""

import hashlib
import json
import os
import re
import reprlib
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..common.errors import DataError, PeftlabError
from ..common.files import write_json
from ..common.paths import cache_folder
from ..common.progress import progress

SETTLED = 2_000_000_000  # nanoseconds; a file changed later than this before its reading may change again unnoticed


def shown(value: Any) -> str:
    """A value for a message: as Python writes it, a long one without its middle.

    >>> shown("a.png 3"), len(shown("x" * 5000))
    ("'a.png 3'", 100)
    """
    brief = reprlib.Repr()
    brief.maxstring = brief.maxother = 100
    return brief.repr(value)


def regular(path: str | Path) -> os.stat_result:
    """What the disk says of a file. Raises DataError unless it is a regular one: whoever opens a pipe may wait on."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: a list names this file, but there is no such file. Fetch the task again") from None
    except (OSError, ValueError) as error:  # a loop of links; a name that no file can have
        reason = getattr(error, "strerror", error)
        raise DataError(f"{str(path)!r}: cannot be read ({reason}). Replace it, or fetch the task again") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, a socket or a device"
        raise DataError(f"{path}: {kind} where a file should be. Put the file there, or fetch the task again")
    return found


def inside(folder: Path, name: str) -> Path | None:
    """The path of a file that a list of a folder names; None where it would lead out of the folder.

    >>> str(inside(Path("dtd"), "images/../..odd.jpg")), inside(Path("dtd"), "images/../../odd.jpg")
    ('dtd/..odd.jpg', None)
    """
    plain = os.path.normpath(name)
    return None if os.path.isabs(plain) or plain.split(os.sep)[0] == ".." else folder / plain


def read_text(path: Path, fix: str = "Fetch the task again") -> str:
    """A text file in UTF-8, with or without a byte order mark. Raises DataError, with the fix, for anything else."""
    regular(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file in UTF-8 ({error}). {fix}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}). Make it readable for you, or replace it") from None
    if "\0" in text:
        raise DataError(f"{path}: not a text file in UTF-8 (a NUL character is in it). {fix}")
    return text


def digests(folder: Path, paths: Iterable[Path]) -> dict[Path, str]:
    """The content of each file as 32 hex digits. folder: of the task, whose lists may name files elsewhere.

    They are kept in the cache, by path, size and times, so that a second call reads only what has changed; a cache
    that cannot be read or written costs time alone. Raises DataError as `regular` does.
    """
    place = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:12]
    kept_in = cache_folder() / "fingerprints" / f"{folder.name}-{place}.json"
    known, now = _kept(kept_in), time.time_ns()
    stats = {path: regular(path) for path in dict.fromkeys(paths)}
    keys = {
        path: f"{os.path.relpath(path, folder)} {s.st_size} {s.st_mtime_ns} {s.st_ctime_ns}"
        for path, s in stats.items()
    }
    new = [path for path, key in keys.items() if key not in known]
    fresh = {path: _digest(path) for path in progress(new, desc=f"{folder.name}: reading", unit="image", delay=1)}
    found = {path: fresh.get(path) or known[key] for path, key in keys.items()}
    settled = {path for path, s in stats.items() if max(s.st_mtime_ns, s.st_ctime_ns) < now - SETTLED}
    kept = {key: found[path] for path, key in keys.items() if path not in fresh or path in settled}
    if kept != known:
        with suppress(OSError, PeftlabError):
            kept_in.parent.mkdir(parents=True, exist_ok=True)
            write_json(kept_in, kept)
    return found


def _kept(file: Path) -> dict[str, str]:
    """What an earlier call has kept; nothing where that is absent or damaged.

    Not by `read_json`, whose largest file is smaller than what COCO's 123,000 images take.
    """
    try:
        known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    pairs = known.items() if isinstance(known, dict) else ()
    return {key: value for key, value in pairs if isinstance(value, str) and re.fullmatch("[0-9a-f]{32}", value)}


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}). Make it readable for you, or replace it") from None
