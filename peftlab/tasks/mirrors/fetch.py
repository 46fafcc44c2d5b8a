"""Bring a VTAB-1k archive here, check it, unpack it: the work behind `peftlab data fetch`.

A broken download goes on where it stopped (`<archive>.part`). Nothing is unpacked before its sha256 was looked at, and
the target folder appears in one step, complete, or not at all.
"""

import re
import shlex
import shutil
from contextlib import AbstractContextManager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from ...common.errors import DataError, PeftlabError
from ...common.files import read_json, sweep_parts, write_json
from ...common.paths import cache_folder, expanded
from ..audit import find_tasks
from ..vtab1k import VTAB
from .archives import BadArchive, check_sha256, unpacked, work_folder
from .disk import on_disk
from .download import download, part_file, say, state_file, was_loaded
from .mirror import find_mirror


def fetch(
    name: str = "vtab-1k",
    destination: str | Path | None = None,
    url: str | None = None,
    sha256: str | None = None,
) -> Path:
    """Download, check and unpack a VTAB-1k archive -> Path of the folder to set PEFTLAB_DATA to.

    name: a key of `mirror.MIRRORS`. destination: default vtab-1k/ in the cache folder; an existing one is left alone.
    url: an http(s) address to take instead of the mirror's. sha256: 64 hex digits the archive must have. An archive
    that already lies in downloads/ of the cache folder, also one placed there by hand, is used without any network.
    Raises PeftlabError (unknown name, no network, offline, disk full, ...) and BadArchive; nothing partial stays but
    the `.part` of the download and its note, which goes when the data are there.
    """
    mirror = find_mirror(name, url)
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise PeftlabError(f"sha256 {sha256!r} is not 64 hex digits. Copy it again, or leave it out")
    target = (expanded(destination) if destination else cache_folder() / "vtab-1k").absolute()
    if _exists(target):
        shutil.rmtree(work_folder(target), ignore_errors=True)  # of a call that was stopped at its very end
        return target
    archive = cache_folder() / "downloads" / mirror.archive
    note, state = archive.with_name(f"{archive.name}.json"), state_file(part_file(archive))
    with _alone(archive.parent):
        sweep_parts(archive.parent, alone=True)
        by_hand = archive.is_file() and not note.exists() and not was_loaded(archive)
        if not archive.is_file():
            download(mirror, archive)
        try:
            found = check_sha256(archive, *_expected(sha256, note))
            with unpacked(archive, target) as report:
                if sha256 is None and not note.exists():
                    say(f"{archive.name}: no sha256 is published; this one is trusted and recorded in {note}: {found}")
                write_json(note, {"url": None if by_hand else mirror.url, "sha256": found})
                state.unlink(missing_ok=True)
        except BadArchive as error:
            if by_hand:
                raise BadArchive(f"{error}. The file was left where you put it; replace it") from None
            archive.unlink()
            state.unlink(missing_ok=True)
            raise BadArchive(f"{error}. The file was removed; fetch again, or choose another mirror") from None
    missing = sorted(set(VTAB) - set(report.table["task"]))
    say(f"{target}: {report.summary()}" + (f" Missing tasks: {', '.join(missing)}." if missing else ""))
    for problem in report.problems[:5]:
        say(problem)
    say(f"Use it with: export PEFTLAB_DATA={shlex.quote(str(target))}\n{archive} is no longer needed.")
    return target


def _exists(target: Path) -> bool:
    """Whether the data are already there. Raises PeftlabError where something else is."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    if not target.is_dir() or not find_tasks(target):
        raise PeftlabError(f"{target}: exists and holds no VTAB-1k task. Choose another destination or move it away")
    say(f"{target}: already there, left alone. Move it away to fetch it anew.")
    return True


def _expected(given: str | None, note: Path) -> tuple[str | None, str]:
    """-> (sha256 or None, where it is from). The first download is trusted, later ones are compared with it."""
    if given:
        return given.lower(), "as given"
    if not note.exists():
        return None, ""
    try:
        return read_json(note)["sha256"], f"recorded in {note}; delete that if the mirror's file is new"
    except (DataError, KeyError):
        raise DataError(f"{note}: not a record of a sha256. Delete this file and fetch again") from None


def _alone(folder: Path) -> AbstractContextManager[BaseFileLock]:
    """Keep a second fetch out: two would write into one .part. The lock ends with its process; its empty file stays.

    Raises PeftlabError while another fetch is at work, and where the disk knows no locks.
    """
    on_disk(folder, folder.mkdir, parents=True, exist_ok=True)
    try:
        return FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout:
        raise PeftlabError(
            f"{folder}: another fetch is at work here. Wait for it, or set another PEFTLAB_CACHE"
        ) from None
    except OSError as error:
        raise PeftlabError(f"{folder}: cannot be locked ({error}). Fix that, or set another PEFTLAB_CACHE") from None
