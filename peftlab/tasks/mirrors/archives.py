"""Check and unpack an archive: nothing leaves its folder, and the target appears in one step or not at all."""

import contextlib
import gzip
import hashlib
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ...common.errors import DataError, PeftlabError
from ...common.files import require_space
from ...common.progress import progress
from ..audit import Audit, audit, find_tasks
from .disk import on_disk

# What the archive modules raise on damage. RuntimeError: encrypted, or a compression that zipfile does not know.
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)


class BadArchive(DataError):
    """The archive is not what it should be: another sha256, damaged, or with paths that lead out of its folder."""


def check_sha256(archive: Path, expected: str | None, source: str) -> str:
    """-> sha256 of the file, 64 hex digits. Raises BadArchive when another one is expected; None accepts any.

    source: where the expected one is from, for the message.
    """
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if expected is not None and found != expected:
        raise BadArchive(f"{archive}: wrong sha256. Expected {expected} ({source}), found {found}")
    return found


def work_folder(target: Path) -> Path:
    """Where an archive is unpacked before it moves to its target."""
    return target.parent / f".{target.name}.partial"


@contextlib.contextmanager
def unpacked(archive: Path, target: Path) -> Iterator[Audit]:
    """Unpack and find the folder of the tasks -> Audit of lists and files; after the block it moves to `target`.

    In one step, so that the target is absent or complete. Raises BadArchive, and DataError when nothing in the archive
    has the VTAB-1k layout.
    """
    work = work_folder(target)
    shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
    try:
        on_disk(work, work.mkdir, parents=True)
        on_disk(work, extract, archive, work)
        root = work
        while (
            not find_tasks(root)
            and len(inner := [p for p in root.iterdir() if p.is_dir() and p.name[0] not in "._"]) == 1
        ):
            root = inner[0]
        if not find_tasks(root):
            there = ", ".join(sorted(p.name for p in root.iterdir())[:8]) or "nothing"
            raise DataError(
                f"{archive}: no VTAB-1k task in it (found: {there}). Choose another mirror, or unpack by hand"
            )
        found = audit(root, decode=False)  # of files that nobody finds in `work` any more when the problems are read
        yield Audit(found.table, [problem.replace(str(root), str(target)) for problem in found.problems])
        on_disk(target, os.replace, root, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def extract(archive: Path, folder: Path) -> None:
    """Unpack a zip or a (compressed) tar. Raises BadArchive for paths and links that leave `folder` and for damage."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                for info in zipped.infolist():
                    _inside(archive, info.filename, link=stat.S_ISLNK(info.external_attr >> 16))
                require_space(folder, sum(info.file_size for info in zipped.infolist()))
                for info in progress(zipped.infolist(), desc=f"unpacking {archive.name}"):
                    zipped.extract(info, folder)
        elif tarfile.is_tarfile(archive):
            if not hasattr(tarfile, "data_filter"):  # Python 3.11.0 to 3.11.3
                raise PeftlabError(f"{archive}: unpacking a tar safely needs Python 3.11.4 or newer. Update Python")
            with tarfile.open(archive) as tarred:
                for member in progress(tarred, desc=f"unpacking {archive.name}"):
                    _inside(archive, member.name)  # filter='data' would quietly strip a leading slash
                    require_space(folder, member.size)
                    tarred.extract(member, folder, filter="data")
        else:
            raise BadArchive(f"{archive}: neither zip nor tar. Was it a web page (login, quota) instead of the file?")
    except DAMAGE as error:
        raise BadArchive(f"{archive}: {error}") from None


def _inside(archive: Path, name: str, link: bool = False) -> None:
    """Raise BadArchive for a member that would be written outside the folder.

    >>> _inside(Path("a.zip"), "vtab-1k/dtd/test.txt")
    >>> _inside(Path("a.zip"), "../b")
    Traceback (most recent call last):
    peftlab.tasks.mirrors.archives.BadArchive: a.zip: '../b' would lead out of the folder it is unpacked to; refused
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if link or path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", name):
        raise BadArchive(f"{archive}: {name!r} would lead out of the folder it is unpacked to; refused")
