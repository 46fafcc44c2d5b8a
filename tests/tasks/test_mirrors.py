"""`fetch` against a server on this machine that can cut, forget ranges, change its file and refuse."""

import errno
import hashlib
import io
import json
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import zipfile
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.request import Request

import numpy as np
import pytest
from faults import STOPS, contents, stopped_everywhere
from filelock import FileLock
from support import make_task

from peftlab.common.errors import DataError, PeftlabError
from peftlab.tasks.mirrors import archives
from peftlab.tasks.mirrors import download as module
from peftlab.tasks.mirrors.archives import BadArchive
from peftlab.tasks.mirrors.fetch import _alone, fetch
from peftlab.tasks.mirrors.mirror import MIRRORS

ADDRESS_NOBODY_LISTENS_AT = "http://127.0.0.1:9/vtab-1k.zip"


class Handler(BaseHTTPRequestHandler):
    """Serves server.content. `cuts`: bytes after which the next replies break off. `codes`: refusals before that."""

    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        log = SimpleNamespace(range=asked, if_range=self.headers.get("If-Range"), sent=0)
        server.log.append(log)
        if server.codes:
            return self.send_error(server.codes.pop(0))
        if server.redirect:
            self.send_response(302)
            self.send_header("Location", server.redirect)
            return self.end_headers()
        start, content = 0, server.content
        fresh = log.if_range in (None, server.etag) or server.ignore_if_range
        if asked and fresh and not server.ignore_range:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                return self.send_error(416)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if server.etag:
            self.send_header("ETag", server.etag)
        if server.length:
            self.send_header("Content-Length", server.length if server.length != "true" else str(len(content) - start))
        self.end_headers()
        end = start + server.cuts.pop(0) if server.cuts else len(content)
        self.wfile.write(content[start:end])
        log.sent = len(content[start:end])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(archive):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.log, server.cuts, server.codes, server.redirect = [], [], [], None
        server.etag, server.ignore_range, server.ignore_if_range, server.length = '"first"', False, False, "true"
        server.content = archive.read_bytes()
        server.url = f"http://127.0.0.1:{server.server_port}/vtab-1k.zip"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def archive(tmp_path):
    """A zip of some 100 kB with two tasks under vtab-1k/, as the public ones have it."""
    make_task(tmp_path / "source/vtab-1k/dtd")
    make_task(tmp_path / "source/vtab-1k/svhn", seed=1)
    noise = np.random.default_rng(0).bytes(100_000)
    (tmp_path / "source/vtab-1k/dtd/images/extra.bin").write_bytes(noise)
    return pack(tmp_path / "source", tmp_path / "source.zip")


def pack(folder, file):
    with zipfile.ZipFile(file, "w") as out:
        for path in sorted(folder.rglob("*")):
            out.write(path, path.relative_to(folder))
    return file


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(module, "PAUSE", 0)
    monkeypatch.setattr(module, "CHUNK", 10_000)
    return tmp_path / "cache"


def names(folder):
    """What lies in a folder, but for the empty file of the lock."""
    return sorted(p.name for p in folder.iterdir() if p.name != ".lock") if folder.exists() else []


def put(file, content):
    """Place an archive by hand where the mirror 'vtab-1k' expects it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def test_fetch(server, cache, capsys):
    target = fetch(url=server.url)
    assert target == cache / "vtab-1k" and names(target) == ["dtd", "svhn"]
    assert (target / "dtd/images/test/000001.png").is_file()
    assert names(cache) == ["downloads", "vtab-1k"]
    sha256 = hashlib.sha256(server.content).hexdigest()
    archive, note = names(cache / "downloads")
    assert archive.endswith("-vtab-1k.zip") and note == f"{archive}.json"
    assert json.loads((cache / "downloads" / note).read_text()) == {"url": server.url, "sha256": sha256}
    said = capsys.readouterr().err
    assert "this one is trusted and recorded" in said and f"export PEFTLAB_DATA={target}" in said
    assert "8 of 8 splits have not the published size" in said and "Missing tasks: caltech101, cifar," in said


def test_problems_are_named_where_the_files_lie_in_the_end(server, cache, tmp_path, capsys):
    folder = tmp_path / "source/vtab-1k/dtd"
    (folder / "images/test/000001.png").unlink()
    server.content = pack(tmp_path / "source", tmp_path / "source.zip").read_bytes()
    fetch(url=server.url)
    said = capsys.readouterr().err
    assert f"{cache}/vtab-1k/dtd/images/test/000001.png: in a list, but no such file" in said
    assert "partial" not in said


def test_destination(server, cache, tmp_path):
    assert fetch(destination=tmp_path / "deep/data", url=server.url) == tmp_path / "deep/data"
    assert names(tmp_path / "deep") == ["data"] and names(cache) == ["downloads"]


def test_resume_after_a_cut(server):
    server.cuts = [70_000]
    fetch(url=server.url)
    first, second = server.log
    assert (first.range, first.sent) == (None, 70_000)
    assert (second.range, second.if_range) == ("bytes=70000-", '"first"')
    assert first.sent + second.sent == len(server.content)


def test_resume_by_a_later_call_and_many_cuts_with_progress(server, cache, monkeypatch):
    server.cuts = [15_000] * 6
    fetch(url=server.url)  # six breaks, but never ATTEMPTS without progress
    assert len(server.log) == 7 and sum(log.sent for log in server.log) == len(server.content)


def test_gives_up_and_keeps_the_part(server, cache):
    server.cuts = [40_000, 0, 0, 0]
    with pytest.raises(PeftlabError, match=r"breaks off \(.*40,000 of .*40,000 bytes are kept.*goes on from there"):
        fetch(url=server.url)
    assert [n.split("vtab-1k")[1] for n in names(cache / "downloads")] == [".zip.part", ".zip.part.json"]
    server.log.clear()
    fetch(url=server.url)
    assert [log.range for log in server.log] == ["bytes=40000-"]


@pytest.mark.parametrize("fault", ["ignore_range", "etag", "etag, ignore_if_range", "length, no etag"])
def test_changed_file_is_never_glued(server, cache, archive, fault):
    """A server that forgets the range, and files that changed between two connections: start over, end up whole."""
    server.cuts = [70_000, 0, 0, 0]
    if fault == "length, no etag":
        server.etag = None
    with pytest.raises(PeftlabError):
        fetch(url=server.url)
    (archive.parent / "source/vtab-1k/dtd/images/extra.bin").write_bytes(bytes(100_000))
    if "length" in fault:
        (archive.parent / "source/vtab-1k/more.bin").write_bytes(bytes(50_000))
    if fault != "ignore_range":
        server.content = pack(archive.parent / "source", archive).read_bytes()
    server.ignore_range, server.ignore_if_range = fault == "ignore_range", "ignore_if_range" in fault
    server.etag = '"second"' if fault.startswith("etag") else server.etag
    server.log.clear()
    fetch(url=server.url, sha256=hashlib.sha256(server.content).hexdigest())
    assert server.log[0].range == "bytes=70000-" and server.log[-1].sent == len(server.content)


@pytest.mark.parametrize("length", ["", "many", "-5"])
def test_unknown_length_cannot_be_resumed(server, cache, length):
    server.length = length
    fetch(url=server.url, sha256=hashlib.sha256(server.content).hexdigest())
    (part := cache / "downloads" / names(cache / "downloads")[0]).rename(f"{part}.part")
    part.with_name(f"{part.name}.part.json").write_text('{"total": null, "etag": null}')
    fetch(destination=cache / "again", url=server.url)
    assert [log.range for log in server.log] == [None, None]


@pytest.mark.parametrize(
    "note", ["", "{}", '{"total": 99}', '{"total": "many", "etag": null}', '{"total": 9e9, "etag": 1}']
)
def test_a_damaged_note_begins_anew(server, cache, note):
    server.cuts = [40_000, 0, 0, 0]
    with pytest.raises(PeftlabError):
        fetch(url=server.url)
    (cache / "downloads" / names(cache / "downloads")[1]).write_text(note)
    server.log.clear()
    fetch(url=server.url)
    assert [log.range for log in server.log] == [None]


def test_finished_part_is_not_fetched_again(server, cache):
    fetch(url=server.url)
    archive = cache / "downloads" / names(cache / "downloads")[0]
    archive.rename(f"{archive}.part")
    archive.with_name(f"{archive.name}.part.json").write_text(json.dumps({"total": len(server.content), "etag": None}))
    fetch(destination=cache / "again", url=server.url)
    assert len(server.log) == 1


def test_wrong_sha256_given(server, cache):
    found = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(BadArchive, match=f"Expected {'0' * 64} .as given., found {found}.*was removed"):
        fetch(url=server.url, sha256="0" * 64)
    assert names(cache) == ["downloads"] and names(cache / "downloads") == []


def test_recorded_sha256_is_compared_later(server, cache, archive):
    fetch(url=server.url)
    file = cache / "downloads" / names(cache / "downloads")[0]
    file.unlink()
    server.content = pack(archive.parent / "source/vtab-1k", archive).read_bytes()
    with pytest.raises(BadArchive, match="Expected .* .recorded in .*json; delete that if .* found"):
        fetch(destination=cache / "again", url=server.url)
    assert not file.exists() and not (cache / "again").exists()
    fetch(destination=cache / "again", url=server.url, sha256=hashlib.sha256(server.content).hexdigest().upper())
    fetch(destination=cache / "third", url=server.url)


def test_damaged_record(server, cache):
    fetch(url=server.url)
    note = cache / "downloads" / names(cache / "downloads")[1]
    note.write_text("{")
    with pytest.raises(DataError, match="json: not a record of a sha256. Delete"):
        fetch(destination=cache / "again", url=server.url)


@pytest.mark.parametrize("sha256", ["abc", "g" * 64])
def test_malformed_sha256(server, sha256):
    with pytest.raises(PeftlabError, match="is not 64 hex digits"):
        fetch(url=server.url, sha256=sha256)
    assert server.log == []


def test_archive_placed_by_hand_needs_no_network(cache, archive, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    put(cache / "downloads/vtab-1k-ssf.zip", archive.read_bytes())
    assert names(fetch("vtab-1k-ssf")) == ["dtd", "svhn"]
    assert json.loads((cache / "downloads/vtab-1k-ssf.zip.json").read_text())["url"] is None


def test_bad_archive_placed_by_hand_is_left(cache, archive):
    file = put(cache / "downloads/vtab-1k.zip", archive.read_bytes())
    with pytest.raises(BadArchive, match="left where you put it"):
        fetch("vtab-1k", sha256="0" * 64)
    assert file.exists()


@pytest.mark.parametrize(
    "name", ["/tmp/escaped.txt", "../escaped.txt", "a/../../escaped.txt", "..\\escaped.txt", "link"]
)
def test_zip_that_climbs_out(server, cache, tmp_path, name):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
        file.writestr("vtab-1k/dtd/test.txt", "images/0.png 0\n")
        info = zipfile.ZipInfo(name)
        if name == "link":
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(info, "/etc")
    server.content = (tmp_path / "bad.zip").read_bytes()
    with pytest.raises(BadArchive, match="would lead out of the folder.*removed"):
        fetch(url=server.url)
    assert names(cache) == ["downloads"] and names(cache / "downloads") == []


@pytest.mark.parametrize("name", ["/tmp/escaped.txt", "../escaped.txt", "symlink", "hardlink"])
def test_tar_that_climbs_out(server, cache, tmp_path, name):
    with tarfile.open(tmp_path / "bad.tar.gz", "w:gz") as file:
        info = tarfile.TarInfo(name)
        if "link" in name:
            info.type = tarfile.SYMTYPE if name == "symlink" else tarfile.LNKTYPE
            info.linkname = "../../source.zip"
        file.addfile(info)
    server.content = (tmp_path / "bad.tar.gz").read_bytes()
    with pytest.raises(BadArchive, match="out of the folder|outside the destination"):
        fetch(url=server.url)
    assert names(cache) == ["downloads"] and names(cache / "downloads") == []


def test_tar_gz(server, archive, tmp_path):
    with tarfile.open(tmp_path / "good.tar.gz", "w:gz") as file:
        file.add(tmp_path / "source/vtab-1k", arcname="vtab-1k")
    server.content = (tmp_path / "good.tar.gz").read_bytes()
    assert names(fetch(url=server.url)) == ["dtd", "svhn"]


@pytest.mark.parametrize("kind", ["html", "crc", "cut tar.gz"])
def test_damaged_archive(server, cache, archive, tmp_path, kind):
    if kind == "html":
        server.content = b"<html>Quota exceeded</html>"
    elif kind == "crc":
        middle = server.content.index(np.random.default_rng(0).bytes(100)) + 5_000
        server.content = server.content[:middle] + b"????" + server.content[middle + 4 :]
    else:
        with tarfile.open(tmp_path / "cut.tar.gz", "w:gz") as file:
            file.add(tmp_path / "source/vtab-1k", arcname="vtab-1k")
        server.content = (tmp_path / "cut.tar.gz").read_bytes()[:60_000]
    with pytest.raises(BadArchive, match="neither zip nor tar|Bad CRC-32|end-of-stream|unexpected end"):
        fetch(url=server.url)
    assert names(cache) == ["downloads"] and names(cache / "downloads") == []


def test_archive_of_something_else(server, cache, tmp_path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("papers/lora.txt", "")
    server.content = (tmp_path / "other.zip").read_bytes()
    with pytest.raises(DataError, match=r"no VTAB-1k task in it \(found: lora.txt\)"):
        fetch(url=server.url)
    assert names(cache) == ["downloads"]


def test_404_is_not_tried_again(server, cache):
    server.codes = [404]
    with pytest.raises(PeftlabError, match="the server answers 404.*set PEFTLAB_DATA"):
        fetch(url=server.url)
    assert len(server.log) == 1 and names(cache / "downloads") == []


def test_503_is_tried_again(server):
    server.codes = [503, 429]
    fetch(url=server.url)
    assert len(server.log) == 3


@pytest.mark.parametrize("where", ["file:///etc/passwd", "ftp://127.0.0.1/vtab-1k.zip"])
def test_only_http(server, cache, where):
    with pytest.raises(PeftlabError, match="only http and https"):
        fetch(url=where)
    server.redirect = where
    with pytest.raises(PeftlabError, match="only http and https|answers 302"):
        fetch(url=server.url)
    assert names(cache) in ([], ["downloads"])


def test_no_encrypted_address_redirects_to_a_plain_one():
    request = Request("https://here/a.zip")
    with pytest.raises(PeftlabError, match="without encryption"):
        module._HttpOnly().redirect_request(request, None, 302, "Found", HTTPMessage(), "http://there/a.zip")


def test_nobody_listens(cache):
    with pytest.raises(
        PeftlabError, match=f"{ADDRESS_NOBODY_LISTENS_AT}: cannot be reached.*save it as .*PEFTLAB_DATA"
    ):
        fetch(url=ADDRESS_NOBODY_LISTENS_AT)
    assert names(cache / "downloads") == []


def test_no_network_is_said_at_once(monkeypatch):
    calls = []

    def no_name(*args, **options):
        calls.append(args)
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_name)
    with pytest.raises(PeftlabError, match="huggingface.co/.*cannot be reached.*name resolution.*PEFTLAB_DATA"):
        fetch("vtab-1k")
    assert len(calls) == 1


def test_offline(server, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(PeftlabError, match="HF_HUB_OFFLINE is set. Unset it, or: .*PEFTLAB_DATA"):
        fetch(url=server.url)
    assert server.log == []


def test_manual_mirrors_say_what_to_do(cache):
    for name, mirror in MIRRORS.items():
        if mirror.manual:
            with pytest.raises(PeftlabError, match=f"wants a browser.*save it as .*{mirror.archive} and fetch again"):
                fetch(name)


def test_unknown_name():
    with pytest.raises(PeftlabError, match="unknown data set 'vtab1k'; did you mean 'vtab-1k'"):
        fetch("vtab1k")


def test_existing_target_is_left_alone(server, cache, capsys):
    make_task(cache / "vtab-1k/dtd")
    before = (cache / "vtab-1k/dtd/test.txt").stat()
    assert fetch(url=server.url) == cache / "vtab-1k"
    assert server.log == [] and names(cache) == ["vtab-1k"] and (cache / "vtab-1k/dtd/test.txt").stat() == before
    assert "already there, left alone" in capsys.readouterr().err


def test_existing_target_with_other_things(server, cache, tmp_path):
    put(tmp_path / "home/thesis.tex", b"")
    for target in (tmp_path / "home", tmp_path / "home/thesis.tex"):
        with pytest.raises(PeftlabError, match="exists and holds no VTAB-1k task"):
            fetch(destination=target, url=server.url)
    assert server.log == [] and names(tmp_path / "home") == ["thesis.tex"]


def test_empty_target_is_filled(server, tmp_path):
    (tmp_path / "empty").mkdir()
    assert names(fetch(destination=tmp_path / "empty", url=server.url)) == ["dtd", "svhn"]


def test_ctrl_c_in_the_download_leaves_only_the_part(server, cache, monkeypatch):
    class Bar:
        def __init__(self, *args, **options):
            self.updates = 0

        __enter__ = __exit__ = lambda self, *args: self

        def update(self, n):
            self.updates += 1
            if self.updates == 5:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "progress", Bar)
        Bar.__exit__ = lambda self, *args: None
        with pytest.raises(KeyboardInterrupt):
            fetch(url=server.url)
    assert names(cache) == ["downloads"]
    part, note = names(cache / "downloads")
    assert part.endswith(".zip.part") and note == f"{part}.json"
    assert (cache / "downloads" / part).stat().st_size == 50_000
    fetch(url=server.url)
    assert server.log[-1].range == "bytes=50000-"


@pytest.mark.parametrize("where", ["extract", "audit"])
def test_ctrl_c_in_the_unpacking_leaves_no_folder(server, cache, monkeypatch, where):
    def stop(archive, folder=None, **options):
        (folder or archive).joinpath("half").write_text("")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(archives, where, stop)
        with pytest.raises(KeyboardInterrupt):
            fetch(url=server.url)
    archive, note = names(cache / "downloads")
    assert names(cache) == ["downloads"] and note == f"{archive}.part.json"  # which says that it is no person's
    fetch(url=server.url)
    assert len(server.log) == 1 and names(cache / "downloads") == [archive, f"{archive}.json"]


def test_leftovers_of_a_killed_run_do_not_get_in(server, cache):
    put(cache / ".vtab-1k.partial/vtab-1k/cifar/test.txt", b"old")
    assert names(fetch(url=server.url)) == ["dtd", "svhn"] and names(cache) == ["downloads", "vtab-1k"]


def test_disk_too_small_is_said_before_the_download(server, cache, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(PeftlabError, match=r"kB needed, the disk has 1.00kB free.*PEFTLAB_CACHE"):
        fetch(url=server.url)
    assert names(cache / "downloads") == []


@pytest.mark.parametrize("code, text", [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "cannot write here")])
def test_disk_full_in_the_download(server, cache, monkeypatch, code, text):
    class Full(io.BytesIO):
        def write(self, block):
            raise OSError(code, "no")

    real = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, mode="r", *a, **k: Full() if mode == "ab" else real(self, mode, *a, **k)
    )
    with pytest.raises(PeftlabError, match=f"downloads: {text}.*PEFTLAB_CACHE"):
        fetch(url=server.url)
    assert len(server.log) == 1 and not (cache / "vtab-1k").exists()


def test_disk_full_in_the_unpacking(server, cache, monkeypatch):
    def full(self, member, folder):
        raise OSError(errno.ENOSPC, "no")

    monkeypatch.setattr(zipfile.ZipFile, "extract", full)
    with pytest.raises(PeftlabError, match="the disk is full"):
        fetch(url=server.url)
    archive, note = names(cache / "downloads")
    assert names(cache) == ["downloads"] and note == f"{archive}.part.json"


def test_what_a_tar_has_no_space_for_is_not_begun(server, cache, tmp_path, monkeypatch):
    member = tarfile.TarInfo("vtab-1k/zeros")
    member.size = 10**7  # a few kB in the archive
    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz") as file:
        file.addfile(member, io.BytesIO(bytes(member.size)))
    server.content = (tmp_path / "bomb.tar.gz").read_bytes()
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10**6))
    monkeypatch.setattr(tarfile.TarFile, "extract", None)
    with pytest.raises(PeftlabError, match="10.0MB needed, the disk has 1.00MB free"):
        fetch(url=server.url)


def test_a_second_fetch_is_kept_out(server, cache):
    with _alone(cache / "downloads"), pytest.raises(PeftlabError, match="another fetch is at work"):
        fetch(url=server.url)
    fetch(url=server.url)


def test_another_process_keeps_a_fetch_out_until_it_dies(server, cache):
    """A killed process leaves the file of its lock, and no lock."""
    (cache / "downloads").mkdir(parents=True)
    file = str(cache / "downloads" / ".lock")
    hold = f"from filelock import FileLock; held = FileLock({file!r}).acquire(); print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(PeftlabError, match="another fetch is at work"):
            fetch(url=server.url)
        other.kill()
    fetch(url=server.url)


def test_a_disk_without_locks(server, monkeypatch):
    def no_locks(self, **options):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", no_locks)
    with pytest.raises(PeftlabError, match="cannot be locked .*No locks available.*PEFTLAB_CACHE"):
        fetch(url=server.url)


# --- stopped at any file operation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", STOPS)
def test_a_fetch_stopped_before_any_file_operation_goes_on_to_the_same_bytes(server, cache, tmp_path, how):
    """And leaves the target absent or complete, with nothing left over in the end."""
    make_task(tmp_path / "small/vtab-1k/dtd", sizes=(1, 1, 1))
    server.content = pack(tmp_path / "small", tmp_path / "small.zip").read_bytes()
    whole = contents(tmp_path / "small/vtab-1k")

    def absent_or_complete():
        assert contents(cache / "vtab-1k") in ({}, whole)

    assert stopped_everywhere(lambda: fetch(url=server.url), cache, how, absent_or_complete) > 40
