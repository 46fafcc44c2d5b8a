"""Load one file over HTTP: a broken download goes on where it stopped (`<file>.part`), also in a later call.

`huggingface_hub.hf_hub_download` is not used: it deletes an unfinished file when its call ends, and 4.7 GB would begin
anew after every Ctrl-C (huggingface/huggingface_hub, pull request 4228).
"""

import os
import re
import socket
import sys
import time
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from ...common.errors import DataError, PeftlabError
from ...common.files import read_json, require_space, write_json
from ...common.progress import progress
from .disk import on_disk
from .mirror import Mirror, require_http

ATTEMPTS, PAUSE, TIMEOUT, CHUNK = 4, 1.0, 30, 1 << 20  # attempts without progress, seconds, seconds, bytes


def download(mirror: Mirror, archive: Path) -> None:
    """Load mirror.url into `archive` by way of `<archive>.part`. Raises PeftlabError naming address and fix.

    The note of the download stays, for `was_loaded`, until the caller has taken the archive over.
    """
    url, part = mirror.url, part_file(archive)
    fix = (
        f"Load it in a browser, save it as {archive} and fetch again; or unpack it and set PEFTLAB_DATA to the folder"
    )
    if mirror.manual:
        raise PeftlabError(f"{url}: this host wants a browser. {fix}")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise PeftlabError(f"{url}: not fetched, HF_HUB_OFFLINE is set. Unset it, or: {fix}")
    failures, best = 0, _size(part)
    reason: Exception
    while failures < ATTEMPTS:
        try:
            _transfer(url, part)
            os.replace(part, archive)
            return
        except HTTPError as error:
            if error.code == 416:  # the file is shorter than what we have: it is another file
                part.unlink(missing_ok=True)
            elif error.code < 500 and error.code not in (408, 429):
                raise PeftlabError(f"{url}: the server answers {error.code} {error.reason}. {fix}") from None
            reason = error
        except (OSError, HTTPException) as error:
            reason = error
            if isinstance(getattr(error, "reason", None), socket.gaierror):
                break
        failures = failures + 1 if _size(part) <= best else 1
        best = max(best, _size(part))
        if failures < ATTEMPTS:
            say(f"{url}: {reason}; trying again")
            time.sleep(PAUSE * 2 ** (failures - 1))
    raise PeftlabError(
        f"{url}: cannot be reached or breaks off ({reason}); {_size(part):,} bytes are kept. "
        f"Check the network and fetch again, it goes on from there. Or: {fix}"
    )


class _HttpOnly(HTTPRedirectHandler):
    """Follows redirects to http and https, and none that gives up encryption."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        """Raise PeftlabError for a redirect that is not followed. fp, the body of the reply, is only passed on."""
        require_http(newurl)
        if req.full_url.startswith("https:") and newurl.startswith("http:"):
            raise PeftlabError(f"{req.full_url}: redirects to {newurl}, without encryption. Choose another mirror")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _transfer(url: str, part: Path) -> None:
    """One connection: append to `part`, or start it over where the server's file is not the one begun."""
    state, have = _state(part), _size(part)
    if have and state.get("total") == have:
        return
    if not state.get("total") or have > state["total"]:
        have = 0  # without a known length nothing tells a changed file from the one begun
    headers = {"User-Agent": "peftlab", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if state["etag"] and not state["etag"].startswith("W/"):
            headers["If-Range"] = state["etag"]
    with build_opener(_HttpOnly).open(Request(url, headers=headers), timeout=TIMEOUT) as reply:
        length, etag = reply.headers.get("Content-Length"), reply.headers.get("ETag")
        if reply.status == 206:
            match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", reply.headers.get("Content-Range", ""))
            if not match or [*map(int, match.groups())] != [have, state["total"]] or etag != state["etag"]:
                on_disk(part.parent, part.unlink)
                raise ConnectionError("the file has changed on the server, starting over")
            total = state["total"]
        else:
            have, total = 0, int(length) if length and length.isdecimal() else None
        require_space(part.parent, (total or 0) - have)
        if not have:  # the old part goes before the new note comes: a crash between must not pair the two
            on_disk(part.parent, part.unlink, missing_ok=True)
        on_disk(part.parent, write_json, state_file(part), {"total": total, "etag": etag})
        with (
            on_disk(part.parent, part.open, "ab") as out,
            progress(total=total, initial=have, unit="B", unit_scale=True, desc=part.stem) as bar,
        ):
            while block := reply.read(CHUNK):
                on_disk(part.parent, out.write, block)
                on_disk(part.parent, out.flush)
                bar.update(len(block))
    if total is not None and _size(part) != total:
        raise ConnectionError(f"the connection broke off at {_size(part):,} of {total:,} bytes")


def _size(file: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    return file.stat().st_size if file.exists() else 0


def part_file(archive: Path) -> Path:
    """Where an archive is while it is loaded."""
    return archive.with_name(f"{archive.name}.part")


def was_loaded(archive: Path) -> bool:
    """Whether an archive is the work of `download`, from a call that was stopped since, and not of a person."""
    part = part_file(archive)
    return state_file(part).exists() and not part.exists()


def state_file(part: Path) -> Path:
    """Where total length and ETag of an unfinished download are noted.

    >>> state_file(Path("vtab-1k.zip.part")).name
    'vtab-1k.zip.part.json'
    """
    return part.with_name(f"{part.name}.json")


def _state(part: Path) -> dict[str, Any]:
    """What is noted of an unfinished download; nothing where the note is missing or damaged."""
    try:
        state = read_json(state_file(part))
    except DataError:
        return {}
    whole = isinstance(state.get("total"), int) and isinstance(state.get("etag", ...), str | None)
    return state if whole else {}


def say(text: str) -> None:
    """A line for the person at the terminal; standard output is for results."""
    print(text, file=sys.stderr)
