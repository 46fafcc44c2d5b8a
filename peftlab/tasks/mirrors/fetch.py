"""Bring a VTAB-1k archive here, check it, unpack it: the work behind `peftlab data fetch`.

A broken download goes on where it stopped (`<archive>.part`). Nothing is unpacked before its sha256 was looked at, and
the target folder appears in one step, complete, or not at all.
"""

import fcntl
import hashlib
import json
import os
import re
import shlex
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from ...common.errors import DataError, PeftlabError, near
from ...common.files import write_json
from ...common.paths import cache_folder
from ..audit import find_tasks
from ..vtab1k import VTAB
from .archives import BadArchive, check_sha256, unpack
from .disk import on_disk
from .download import download, require_http, say


@dataclass(frozen=True)
class Mirror:
    """A public copy of VTAB-1k. `manual`: its host wants a browser. `sha256` None: none is published that we know of,
    so the first download is trusted and recorded, and later ones are compared with it."""

    url: str
    archive: str
    about: str
    manual: bool = False
    sha256: str | None = None


# Addresses as read in the named places; none of them has been tried.
MIRRORS = {
    "vtab-1k": Mirror(
        "https://huggingface.co/datasets/XiN0919/VTAB-1k/resolve/main/vtab-1k.zip",
        "vtab-1k.zip",
        "V-PETL Bench (README of synbol/Parameter-Efficient-Transfer-Learning-Benchmark); about 4.7 GB",
    ),
    "vtab-1k-repadapter": Mirror(
        "https://drive.google.com/file/d/1yZKwiKdsBzTfBgnStRveYMokc7GMMd5p",
        "vtab-1k-repadapter.zip",
        "RepAdapter (SETUP_DATA.md of BenediktAlkin/vtab1k-pytorch)",
        manual=True,
    ),
    "vtab-1k-ssf": Mirror(
        "https://shanghaitecheducn-my.sharepoint.com/:f:/g/personal/liandz_shanghaitech_edu_cn/"
        "EnV6eYPVCPZKhbqi-WSJIO8BOcyQwDwRk6dAThqonQ1Ycw?e=J884Fp",
        "vtab-1k-ssf.zip",
        "SSF (README of dongzelian/SSF)",
        manual=True,
    ),
}


def fetch(name="vtab-1k", destination=None, url=None, sha256=None):
    """Download, check and unpack a VTAB-1k archive -> Path of the folder to set PEFTLAB_DATA to.

    name: a key of MIRRORS. destination: default vtab-1k/ in the cache folder; an existing one is left alone. url: an
    http(s) address to take instead of the mirror's. sha256: 64 hex digits the archive must have. An archive that
    already lies in downloads/ of the cache folder, also one placed there by hand, is used without any network.
    Raises PeftlabError (unknown name, no network, offline, disk full, ...) and BadArchive; nothing partial stays but
    the `.part` of the download and its note.
    """
    mirror = _mirror(name, url)
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise PeftlabError(f"sha256 {sha256!r} is not 64 hex digits. Copy it again, or leave it out")
    target = (Path(destination).expanduser() if destination else cache_folder() / "vtab-1k").absolute()
    if _exists(target):
        return target
    archive = cache_folder() / "downloads" / mirror.archive
    note = archive.with_name(f"{archive.name}.json")
    with _alone(archive.parent):
        by_hand = archive.is_file() and not note.exists()
        if not archive.is_file():
            download(mirror, archive)
        try:
            found = check_sha256(archive, *_expected(sha256, mirror, note))
            report = unpack(archive, target)
        except BadArchive as error:
            if by_hand:
                raise BadArchive(f"{error}. The file was left where you put it; replace it") from None
            archive.unlink()
            raise BadArchive(f"{error}. The file was removed; fetch again, or choose another mirror") from None
        if sha256 is None and mirror.sha256 is None and not note.exists():
            say(f"No sha256 of {archive.name} is published: this one is trusted and recorded in {note}: {found}")
        write_json(note, {"url": None if by_hand else mirror.url, "sha256": found})
    missing = sorted(set(VTAB) - set(report.table["task"]))
    say(f"{target}: {report.summary()}" + (f" Missing tasks: {', '.join(missing)}." if missing else ""))
    for problem in report.problems[:5]:
        say(problem)
    say(f"Use it with: export PEFTLAB_DATA={shlex.quote(str(target))}\n{archive} is no longer needed.")
    return target


def _mirror(name, url):
    if name not in MIRRORS:
        raise PeftlabError(f"unknown data set {name!r}{near(name, MIRRORS)}")
    if url is None:
        return MIRRORS[name]
    require_http(url)
    # One archive name per address, so that neither a .part nor a recorded sha256 meets a file of another address.
    base = PurePosixPath(urlsplit(url).path).name or name
    return Mirror(url, f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{base}", "given by the user")


def _exists(target):
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    if not target.is_dir() or not find_tasks(target):
        raise PeftlabError(f"{target}: exists and holds no VTAB-1k task. Choose another destination or move it away")
    say(f"{target}: already there, left alone. Move it away to fetch it anew.")
    return True


def _expected(given, mirror, note):
    """-> (sha256 or None, where it is from)."""
    if given or mirror.sha256:
        return (given or mirror.sha256).lower(), "as given" if given else "published for this mirror"
    if not note.exists():
        return None, ""
    try:
        return json.loads(note.read_text())["sha256"], f"recorded in {note}; delete that if the mirror's file is new"
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{note}: not a record of a sha256. Delete this file and fetch again") from None


@contextmanager
def _alone(folder):
    """Keep a second fetch out: two would write into one .part. The lock is on the folder itself and leaves no file."""
    on_disk(folder, folder.mkdir, parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PeftlabError(
                f"{folder}: another fetch is at work here. Wait for it, or set another PEFTLAB_CACHE"
            ) from None
        except OSError:
            pass  # some network disks have no locks; a fetch alone needs none
        yield
    finally:
        os.close(handle)
