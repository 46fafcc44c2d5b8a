"""Images with captions: COCO's annotation files, Flickr8k's captions.jsonl, and synthetic scenes.

COCO    <folder>/annotations/captions_<split>*.json, images in the folder named after the rest: captions_train2017.json
        describes <folder>/train2017/*.jpg. {"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}
jsonl   <folder>/captions.jsonl, a line an image: {"file", "captions": [..], "split": "train" | "val" | "test"}
"""

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, SupportsIndex, TypeAlias

import numpy as np
from PIL import Image
from threadpoolctl import threadpool_limits

from ..backbones.types import Pixels
from ..common.errors import DataError, check_choice
from ..common.files import write_json
from ..common.paths import cache_folder, expanded
from ..common.progress import progress
from ..common.used import note_use
from .files import digests, inside, read_text, shown
from .once import made_once
from .synthetic import scenes
from .synthetic.registry import image_rng
from .task import read_pixels
from .vtab1k import read_lines

SPLITS = ("train", "val", "test")
SCENES = {"train": 800, "val": 200, "test": 200}

Captioned: TypeAlias = tuple[Path, list[str]]  # an image and its captions


@dataclass(frozen=True)
class CaptionTask:
    """Images with their captions. `synthetic`: scenes drawn here, whose numbers are never those of photographs.

    >>> CaptionTask("scenes", Path("scenes-v1"), synthetic=True).title
    'scenes (synthetic)'
    """

    name: str
    folder: Path
    synthetic: bool

    @property
    def title(self) -> str:
        """The name for tables and pictures; synthetic scenes carry their tag."""
        return f"{self.name} (synthetic)" if self.synthetic else self.name

    @cached_property
    def entries(self) -> dict[str, list[Captioned]]:
        """The images and captions of each split. Raises DataError for anything missing or empty."""
        if os.path.lexists(self.folder / "captions.jsonl"):
            return read_jsonl(self.folder / "captions.jsonl")
        return {split: read_coco(file) for split in SPLITS if (file := coco_file(self.folder, split))}

    def split(self, name: str) -> list[Captioned]:
        """The images and captions of 'train', 'val' or 'test'."""
        check_choice("split", name, self.entries)
        return self.entries[name]

    def captions(self, split: str) -> list[list[str]]:
        """All captions of each image."""
        return [captions for _, captions in self.split(split)]

    def size(self, split: str) -> int:
        """Number of images of a split."""
        return len(self.split(split))

    def pixels(
        self,
        split: str,
        size: tuple[int, int],
        indices: Iterable[SupportsIndex] | None = None,
        interpolation: str = "bicubic",
    ) -> Pixels:
        """The images of a split, or those at `indices`, as `read_pixels` gives them."""
        paths = [path for path, _ in self.split(split)]
        return read_pixels(paths if indices is None else [paths[i] for i in indices], size, interpolation)

    def factors(self, split: str) -> list[list[dict[str, Any]]]:
        """What each synthetic scene shows: the factors of each of its solids. Raises DataError for a damaged file."""
        file = self.folder / "factors.json"
        text = read_text(file)
        try:
            table = json.loads(text)
            return [table[f"{split}/{path.name}"]["objects"] for path, _ in self.split(split)]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"{file}: not the factors of these scenes ({error!r}). Draw the scenes anew") from None

    @cached_property
    def digests(self) -> dict[Path, str]:
        """The content of every image that has captions, as 32 hex digits. Raises DataError for a missing one."""
        return digests(self.folder, [path for each in self.entries.values() for path, _ in each])

    @cached_property
    def fingerprint(self) -> str:
        """12 hex digits over the folder's name, the names and the content of the images, and their captions.

        Raises DataError for an image that is missing or no regular file.
        """
        rows = [
            [split, path.relative_to(self.folder).as_posix(), captions, self.digests[path]]
            for split, each in self.entries.items()
            for path, captions in each
        ]
        return hashlib.sha256(json.dumps([self.folder.name, rows]).encode()).hexdigest()[:12]


def load_captions(source: str | Path = "scenes") -> CaptionTask:
    """A CaptionTask. source: 'scenes' (synthetic, drawn at the first call), or a folder as the module describes.

    Raises DataError for a folder without captions.
    """
    task = _find(source)
    note_use("captions", task.title, lambda: task.fingerprint)
    return task


def _find(source: str | Path) -> CaptionTask:
    if str(source) == "scenes":
        folder = cache_folder() / "synthetic" / "scenes-v1"
        made_once(folder, lambda part: draw_scenes(part, SCENES))
        return CaptionTask("scenes", folder, synthetic=True)
    folder = expanded(source)
    if not os.path.lexists(folder / "captions.jsonl") and not any(coco_file(folder, split) for split in SPLITS):
        raise DataError(
            f"{folder}: neither captions.jsonl nor annotations/captions_<split>.json is there. Name the folder that "
            "has one of them, or 'scenes' for synthetic ones"
        )
    return CaptionTask(folder.name, folder, synthetic=False)


def coco_file(folder: Path, split: str) -> Path | None:
    """The annotation file of a split, or None. Raises DataError where several could be meant."""
    found = sorted((folder / "annotations").glob(f"captions_{split}*.json"))
    if len(found) > 1:
        raise DataError(f"{folder}: {', '.join(f.name for f in found)} could all be {split!r}. Keep one of them")
    return found[0] if found else None


def read_coco(file: Path) -> list[Captioned]:
    """The images and captions of one annotation file, in the order of its images.

    Raises DataError for a file of another form, and for captions of images that it does not list.
    """
    images, text = file.parents[1] / file.stem.removeprefix("captions_"), read_text(file)
    try:
        content = json.loads(text)
        names = {image["id"]: image["file_name"] for image in content["images"]}
        said = defaultdict(list)
        for annotation in content["annotations"]:
            said[annotation["image_id"]].append(annotation["caption"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{file}: not COCO captions ({type(error).__name__}: {error}). Fetch the file again") from None
    if len(names) < len(content["images"]):
        twice, _ = Counter(image["id"] for image in content["images"]).most_common(1)[0]
        raise DataError(f"{file}: lists image id {shown(twice)} twice. Give each image an id of its own")
    strangers = sorted(said.keys() - names.keys(), key=str)
    if strangers:
        raise DataError(f"{file}: captions of image ids that it does not list: {shown(strangers[:5])}")
    if not names:
        raise DataError(f"{file}: no captions in it")
    return [(_inside(images, name, file), _checked(said[i], name, file)) for i, name in names.items()]


def read_jsonl(file: Path) -> dict[str, list[Captioned]]:
    """The images and captions of each split of captions.jsonl. Raises DataError naming the line."""
    entries = defaultdict(list)
    for number, line in read_lines(file):
        try:
            row = json.loads(line)
            name, captions, split = row["file"], row["captions"], row["split"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"{file}, line {number}: not an image with captions ({error!r}). Fix the line") from None
        check_choice(f"split in {file}, line {number}:", split, SPLITS)
        entries[split].append((_inside(file.parent, name, file), _checked(captions, name, file)))
    if not entries:
        raise DataError(f"{file}: no captions in it")
    return dict(entries)


def _inside(folder: Path, name: Any, file: Path) -> Path:
    """The path of an image. Raises DataError for what is no name, or leads out of the folder."""
    valid = isinstance(name, str) and name.encode(errors="ignore").decode().replace("\0", "")
    if not valid or valid != name:
        raise DataError(f"{file}: {shown(name)} is not the name of an image. Fix it, or drop the image")
    path = inside(folder, name)
    if path is None:
        raise DataError(f"{file}: the image name {shown(name)} leads out of {folder}")
    return path


def _checked(captions: Any, name: str, file: Path) -> list[str]:
    """Captions without surrounding space. Raises DataError for an image without any, and for an empty one."""
    if not isinstance(captions, list) or not captions or not all(isinstance(c, str) and c.strip() for c in captions):
        raise DataError(
            f"{file}: {name} has no caption, or an empty one: {shown(captions)}. Write one, or drop the image"
        )
    return [caption.strip() for caption in captions]


@threadpool_limits.wrap(limits=1)
def draw_scenes(folder: Path, sizes: Mapping[str, int], series: str = "scenes") -> None:
    """Write scenes with their COCO files into an empty folder, so many of each split. Another series has others."""
    rows = [(split, i) for split, n in sizes.items() for i in range(n)]
    factors = {}
    content: dict[str, dict[str, list[dict[str, Any]]]] = {split: {"images": [], "annotations": []} for split in sizes}
    for split in sizes:
        (folder / split).mkdir()
    for index, (split, i) in enumerate(progress(rows, desc="drawing scenes (once)", unit="image")):
        name = f"{i:06d}.png"
        image, captions, factors[f"{split}/{name}"] = scenes.draw(image_rng(series, index))
        Image.fromarray(np.ascontiguousarray(image)).save(folder / split / name)
        content[split]["images"].append({"id": i, "file_name": name})
        content[split]["annotations"] += [
            {"id": len(captions) * i + j, "image_id": i, "caption": said} for j, said in enumerate(captions)
        ]
    (folder / "annotations").mkdir()
    for split, each in content.items():
        write_json(folder / "annotations" / f"captions_{split}.json", each)
    write_json(folder / "factors.json", factors)
