"""Hostile lists, images and captions: each is refused with one sentence that names the file; none hangs."""

import io
import json
import os
import re
import signal
import socket
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from support import make_task

from peftlab.common.errors import DataError, PeftlabError
from peftlab.tasks.audit import audit
from peftlab.tasks.captions import load_captions
from peftlab.tasks.load import load_task
from peftlab.tasks.task import as_rgb, load_image
from peftlab.tasks.vtab1k import SPLITS


@pytest.fixture(autouse=True)
def nothing_hangs(tmp_path, monkeypatch):
    """Opening a pipe that nobody writes to would wait for ever."""
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short

    def hangs(number, frame):
        pytest.fail("it hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def one_sentence(error, *words):
    """No more than a screen line or three, without what a terminal would not show."""
    text = str(error.value)
    assert all(word in text for word in words), text
    assert text.replace("\u2026", "").isprintable() and len(text) < 600, text


# What may stand in the place of any file


def folder_there(file):
    file.mkdir()


def pipe_there(file):
    os.mkfifo(file)


def socket_there(file):
    server = socket.socket(socket.AF_UNIX)
    server.bind(os.path.relpath(file))
    server.close()


def device_there(file):
    file.symlink_to("/dev/zero")


def loop_there(file):
    file.symlink_to(file.name)


def dangling_there(file):
    file.symlink_to("nowhere")


NO_FILES = {
    folder_there: "a folder where a file should be",
    pipe_there: "a pipe, a socket or a device",
    socket_there: "a pipe, a socket or a device",
    device_there: "a pipe, a socket or a device",
    loop_there: "cannot be read",
    dangling_there: "no such file",
}


# Lists

GOOD = b"images/test/000000.png 0\n"


def in_list(content):
    return lambda file: file.write_bytes(content)


LISTS = [  # (name, what is put in the place of test.txt, words of the message)
    *[(damage.__name__, damage, [words]) for damage, words in NO_FILES.items()],
    ("empty", in_list(b""), ["the list is empty"]),
    ("blank", in_list(b"\xef\xbb\xbf\r\n \r\n"), ["the list is empty"]),
    ("utf-16", in_list(GOOD.decode().encode("utf-16")), ["not a text file"]),
    ("utf-16 without mark", in_list(GOOD.decode().encode("utf-16-le")), ["not a text file", "NUL"]),
    ("binary", in_list(bytes(range(256)) * 10), ["not a text file"]),
    ("NUL in a name", in_list(GOOD + b"images/te\0st.png 0\n"), ["not a text file", "NUL"]),
    ("5,000 digits", in_list(GOOD + b"a.png " + b"9" * 5000), ["line 2", "5000 digits", "out of range", "0 to 1"]),
    ("minus 5,000 digits", in_list(b"a.png -" + b"9" * 5000), ["line 1", "5000 digits", "out of range"]),
    ("beyond 64 bits", in_list(b"a.png " + b"9" * 25), ["line 1", "25 digits", "out of range"]),
    ("other digits", in_list("a.png \u0663\n".encode()), ["line 1", "is not '<path> <label>'"]),
    ("an endless line", in_list(b"x" * 5_000_000), ["line 1", "is not '<path> <label>'"]),
    ("a tab", in_list(b"a.png\t0\n"), ["line 1", "is not '<path> <label>'"]),
    ("not a number", in_list(b"a.png nan\n"), ["line 1", "is not '<path> <label>'"]),
    ("the folder itself", in_list(b". 0\n"), ["dtd: a folder where a file should be"]),
    ("leaves the folder", in_list(b"images/../../x.png 0\n"), ["line 1", "leaves the task's folder"]),
    ("absolute", in_list(b"/etc/passwd 0\n"), ["line 1", "leaves the task's folder"]),
    ("a name too long", in_list(b"x" * 300 + b".png 0\n"), ["cannot be read"]),
    ("a file as folder", in_list(b"classes.txt/x.png 0\n"), ["classes.txt/x.png", "no such file"]),
    ("a line separator in a name", in_list("a\u2028b.png 0\n".encode()), ["a\u2028b.png", "no such file"]),
]


@pytest.mark.parametrize(("damage", "words"), [row[1:] for row in LISTS], ids=[row[0] for row in LISTS])
def test_lists(damage, words, tmp_path):
    folder = make_task(tmp_path / "dtd")
    (folder / "test.txt").unlink()
    damage(folder / "test.txt")
    task = load_task("dtd", root=tmp_path)
    for use in (lambda: task.pixels("test", (4, 4)), lambda: task.fingerprint):
        with pytest.raises(DataError) as error:
            use()
        if "\u2028" not in words[0]:
            one_sentence(error, *words)
        assert all(word in str(error.value) for word in words)
    assert len(audit(folder).problems) >= 1 and task.size("train800") == 4


CLASSES = [
    *[(damage.__name__, damage, [words]) for damage, words in NO_FILES.items()],
    ("empty", in_list(b""), ["no class names"]),
    ("blank", in_list(b"\r\n\r\n"), ["no class names"]),
    ("only a mark", in_list(b"\xef\xbb\xbf"), ["no class names"]),
    ("twice", in_list(b"even\nodd\neven\n"), ["'even' stands there twice"]),
    ("too many", in_list(b"".join(b"c%d\n" % i for i in range(48))), ["48 class names", "has 47"]),
    ("NUL", in_list(b"even\no\0dd\n"), ["not a text file", "NUL"]),
    ("utf-16", in_list("even\nodd\n".encode("utf-16")), ["not a text file"]),
]


@pytest.mark.parametrize(("damage", "words"), [row[1:] for row in CLASSES], ids=[row[0] for row in CLASSES])
def test_classes(damage, words, tmp_path):
    folder = make_task(tmp_path / "dtd")
    (folder / "classes.txt").unlink()
    damage(folder / "classes.txt")
    with pytest.raises(DataError) as error:
        load_task("dtd", root=tmp_path)
    one_sentence(error, "classes.txt", *words)
    assert any("classes.txt" in problem for problem in audit(folder).problems)


@pytest.mark.parametrize("split", SPLITS)
def test_windows_files_are_read_as_they_are_meant(split, tmp_path):
    """A byte order mark and CRLF."""
    folder = make_task(tmp_path / "dtd")
    for name in (split, "classes"):
        lines = (folder / f"{name}.txt").read_text()
        (folder / f"{name}.txt").write_text(lines, encoding="utf-8-sig", newline="\r\n")
    task = load_task("dtd", root=tmp_path)
    assert task.classes == ("even", "odd") and audit(folder).problems == []
    assert task.split(split)[0][0].name == "000000.png"


# Images


def png(width, height, rows=b""):
    """A PNG that claims a size."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def saved(mode, form, frames=1, **options):
    """The bytes of an image, or of an animation, in some mode and format."""

    def save(file):
        shades = [Image.new("L", (8, 8), 60 * i).convert(mode) for i in range(frames)]
        with file.open("w+b") as out:
            shades[0].save(
                out, form, **options, **({"save_all": True, "append_images": shades[1:]} if frames > 1 else {})
            )

    return save


def deep(file):
    Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16)).save(file)


def cut(file):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "JPEG")
    file.write_bytes(out.getvalue()[:900])


UNREADABLE = "not a readable image"
IMAGES = [  # (name, what is put in the place of the image, words of the message)
    *[(damage.__name__, damage, [words]) for damage, words in NO_FILES.items()],
    ("bomb", in_list(png(40_000, 40_000)), ["too large", "1600000000 pixels"]),
    ("small bomb", in_list(png(10_000, 10_000)), ["too large", "100000000 pixels"]),
    ("the largest bomb", in_list(png(2**31 - 1, 2**31 - 1)), ["too large"]),
    ("a bomb of text", in_list(png(8, 8)[:33] + b"\0\x10\0\0zTXt" + bytes(100)), [UNREADABLE]),
    ("no width", in_list(png(0, 8)), [UNREADABLE]),
    ("no pixels", in_list(png(8, 8)), [UNREADABLE]),
    ("no bytes", in_list(b""), [UNREADABLE]),
    ("half a jpeg", cut, [UNREADABLE]),
    ("a page", in_list(b"<html>quota exceeded</html>"), [UNREADABLE]),
    (
        "PostScript",
        in_list(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n{} loop\n"),
        [UNREADABLE],
    ),
    ("animated gif", saved("P", "GIF", 3), ["an animation"]),
    ("animated grey gif", saved("L", "GIF", 3), ["an animation"]),
    ("animated png", saved("RGB", "PNG", 3), ["an animation"]),
    ("animated webp", saved("RGB", "WEBP", 3), ["an animation"]),
    ("pages of a tiff", saved("RGB", "TIFF", 2), ["an animation"]),
    ("gif", saved("P", "GIF"), ["image mode P", "convert('RGB')"]),
    ("16 bit", deep, ["image mode I;16", "point(lambda v: v / 257).convert('L')"]),
    ("CMYK jpeg", saved("CMYK", "JPEG"), ["image mode CMYK", "convert('RGB')"]),
    ("transparent", saved("RGBA", "PNG"), ["image mode RGBA"]),
    ("grey and transparent", saved("LA", "PNG"), ["image mode LA"]),
    ("black and white", saved("1", "PNG"), ["image mode 1"]),
    ("floats", saved("F", "TIFF"), ["image mode F"]),
]


@pytest.mark.parametrize(("damage", "words"), [row[1:] for row in IMAGES], ids=[row[0] for row in IMAGES])
def test_images(damage, words, tmp_path):
    folder = make_task(tmp_path / "dtd")
    file = folder / "images/test/000001.png"
    file.unlink()
    damage(file)
    with pytest.raises(DataError) as error:
        load_task("dtd", root=tmp_path).pixels("test", (4, 4))
    one_sentence(error, str(file), *words)
    report = audit(folder)
    assert str(error.value) in report.problems
    test = report.table[report.table["split"] == "test"].iloc[0]
    modes = sum("image mode" in word for word in words)
    assert (test["unreadable"], test["wrong_mode"]) == (1 - modes, modes)


def test_16_bits_are_scaled_by_the_conversion_that_is_named():
    """convert('RGB') alone, which other modes need, gives 255 for all but the darkest."""
    stored = np.array([[0, 257, 20560, 65535]], dtype=np.uint16)
    with pytest.raises(DataError) as error:
        as_rgb(image := Image.fromarray(stored), "deep.png")
    calls = re.fullmatch(r"point\(lambda v: v / (\d+)\)\.convert\('(.)'\)", str(error.value).split("(path).")[1][:-11])
    divisor, mode = calls.groups()
    assert np.asarray(image.point(lambda v: v / int(divisor)).convert(mode)).tolist() == [[0, 1, 80, 255]]


@pytest.mark.parametrize("name", ["a\0b.png", "\ud800.png"])
def test_names_that_no_file_can_have(name, tmp_path):
    with pytest.raises(DataError) as error:
        load_image(tmp_path / name)
    one_sentence(error, "cannot be read")


@pytest.mark.parametrize(
    ("form", "suffix"),
    [
        ("JPEG", "jpg"),
        ("PNG", "png"),
        ("WEBP", "webp"),
        ("GIF", "gif"),
        ("TIFF", "tiff"),
        ("BMP", "bmp"),
        ("PPM", "ppm"),
    ],
)
def test_damaged_at_random(form, suffix, tmp_path):
    """Bytes turned, cut out and repeated: an image or one sentence, whatever Pillow raises."""
    rng, out = np.random.default_rng(0), io.BytesIO()
    exif = (
        {}
        if form in ("GIF", "BMP", "PPM")
        else {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"}
    )
    Image.fromarray(rng.integers(0, 256, (24, 16, 3), dtype=np.uint8)).save(out, form, **exif)
    whole, file, read = out.getvalue(), tmp_path / f"damaged.{suffix}", 0
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(rng.integers(1, 6)):
            at = int(rng.integers(min(len(content), 200) if rng.random() < 0.7 else len(content)))
            content[at] = rng.integers(256)
        cut_at = int(rng.integers(len(content)))
        file.write_bytes(bytes(content if rng.random() < 0.7 else content[:cut_at] + content[cut_at + 7 :]))
        try:
            read += load_image(file).mode == "RGB"
        except DataError as error:
            assert f"damaged.{suffix}" in str(error)
    assert read < 150


# Captions

ROW = '{"file": "b.png", "captions": ["a cat"], "split": "test"}\n'


def coco_file(**change):
    content = {
        "images": [{"id": 7, "file_name": "7.png"}],
        "annotations": [{"image_id": 7, "caption": "a cat"}],
    }
    return in_list(json.dumps(content | change).encode())


COCO = [
    *[(damage.__name__, damage, [words]) for damage, words in NO_FILES.items()],
    ("empty", in_list(b""), ["not COCO captions"]),
    ("binary", in_list(b"\xff\xfe\0"), ["not a text file"]),
    ("a list", in_list(b"[]"), ["not COCO captions"]),
    ("a number", in_list(b"7"), ["not COCO captions"]),
    ("nested", in_list(b"[" * 200_000), ["not COCO captions"]),
    ("5,000 digits", in_list(b'{"images": ' + b"9" * 5000 + b"}"), ["not COCO captions"]),
    ("no images", coco_file(images=[], annotations=[]), ["no captions in it"]),
    ("one id twice", coco_file(images=[{"id": 7, "file_name": f"{i}.png"} for i in (7, 8)]), ["7", "twice"]),
    ("a name that is a number", coco_file(images=[{"id": 7, "file_name": 7}]), ["not the name of an image"]),
    ("a name with NUL", coco_file(images=[{"id": 7, "file_name": "a\0.png"}]), ["not the name of an image"]),
    ("no name", coco_file(images=[{"id": 7, "file_name": ""}]), ["not the name of an image"]),
    ("half a character", coco_file(images=[{"id": 7, "file_name": "\ud800.png"}]), ["not the name of an image"]),
    ("out", coco_file(images=[{"id": 7, "file_name": "../../7.png"}]), ["'../../7.png' leads out of"]),
    ("an id that is a list", coco_file(images=[{"id": [7], "file_name": "7.png"}]), ["not COCO captions"]),
    ("a caption that is a number", coco_file(annotations=[{"image_id": 7, "caption": 7}]), ["7.png has no caption"]),
]


@pytest.mark.parametrize(("damage", "words"), [row[1:] for row in COCO], ids=[row[0] for row in COCO])
def test_coco(damage, words, tmp_path):
    (tmp_path / "annotations").mkdir()
    file = tmp_path / "annotations" / "captions_test.json"
    damage(file)
    with pytest.raises(DataError) as error:
        load_captions(tmp_path).captions("test")
    one_sentence(error, str(file), *words)


JSONL = [
    *[(damage.__name__, damage, [words]) for damage, words in NO_FILES.items()],
    ("empty", in_list(b""), ["no captions in it"]),
    ("utf-16", in_list(ROW.encode("utf-16")), ["not a text file"]),
    ("NUL", in_list(ROW.encode() + b"\0"), ["not a text file", "NUL"]),
    ("nested", in_list(ROW.encode() + b"[" * 200_000), ["line 2: not an image with captions"]),
    ("a list", in_list(b"[]"), ["line 1: not an image with captions"]),
    ("5,000 digits", in_list(b"9" * 5000), ["line 1: not an image with captions"]),
    ("a number", in_list(ROW.replace('"b.png"', "7").encode()), ["not the name of an image"]),
    ("an escaped NUL", in_list(ROW.replace("b.png", "b\\u0000.png").encode()), ["not the name of an image"]),
    ("a split of another type", in_list(ROW.replace('"test"', "[1]").encode()), ["line 1", "[1]", "Known: test"]),
]


@pytest.mark.parametrize(("damage", "words"), [row[1:] for row in JSONL], ids=[row[0] for row in JSONL])
def test_jsonl(damage, words, tmp_path):
    file = tmp_path / "captions.jsonl"
    damage(file)
    with pytest.raises(PeftlabError) as error:
        load_captions(tmp_path).captions("test")
    one_sentence(error, str(file), *words)


def test_jsonl_from_windows_and_with_line_separators(tmp_path):
    text = ROW.replace("a cat", "a\u2028cat") + "\n" + ROW.replace("b.png", "c.png")
    (tmp_path / "captions.jsonl").write_text(text, encoding="utf-8-sig", newline="\r\n")
    assert load_captions(tmp_path).captions("test") == [["a\u2028cat"], ["a cat"]]


@pytest.mark.parametrize(
    "damage", [pipe_there, folder_there, loop_there, in_list(b"{"), in_list(b"[]"), in_list(b"{}")]
)
def test_factors(damage, tmp_path):
    (tmp_path / "captions.jsonl").write_text(ROW)
    damage(tmp_path / "factors.json")
    with pytest.raises(DataError) as error:
        load_captions(tmp_path).factors("test")
    one_sentence(error, "factors.json")
