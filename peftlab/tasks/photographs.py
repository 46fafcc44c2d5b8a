"""Photographs that come with libraries which are installed anyway: no download, no labels, each with its credit.

Each has an outline of what it shows, drawn by hand with some twenty points: good to a few per cent of the width.

Credits are those of the libraries: scikit-learn's datasets/images/README.txt, the docstrings of skimage.data, and the
page that matplotlib's file names as its source.
"""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor

from ..backbones.types import Pixels
from ..common.errors import DataError, check_choice
from .task import load_image


class Library(NamedTuple):
    """A library with photographs: its name, its package, their folder in it."""

    name: str
    package: str
    folder: str


@dataclass(frozen=True)
class Photograph:
    """A photograph: its file in a library, what it shows, by whom, under which licence, where it was published."""

    name: str
    library: Library
    file: str
    shows: str
    credit: str
    licence: str
    source: str
    outline: tuple[tuple[float, float], ...]  # (x, y) in per cent of the photograph's width

    @property
    def caption(self) -> str:
        """What stands below a figure of it."""
        return f"{self.shows}. Photograph: {self.credit}, {self.licence}; from {self.library.name}."

    @property
    def path(self) -> Path:
        """Where it is on this machine."""
        return Path(str(files(self.library.package))) / self.library.folder / self.file

    def image(self) -> Image.Image:
        """All of it, in RGB. Raises DataError where the library was installed without it."""
        if not self.path.is_file():
            name = self.library.name
            raise DataError(f"{self.path}: {name} was installed without this photograph. Install {name} with pip")
        return load_image(self.path)

    def pixels(self, size: tuple[int, int]) -> Pixels:
        """A batch of one, as `prepare_for` and views take it: the largest part around the centre, resized to size.

        size: (height, width), as `input_size` of a ViT gives it; unlike images of tasks, a photograph is cropped to
        that shape, not squeezed into it.

        >>> photographs("cat")[0].pixels((112, 112)).shape
        torch.Size([1, 112, 112, 3])
        """
        return torch.from_numpy(np.array(ImageOps.fit(self.image(), size[::-1], Image.Resampling.BICUBIC)))[None]

    def mask(self, size: tuple[int, int]) -> Bool[Tensor, "1 height width"]:
        """Where in `pixels(size)` the object is.

        >>> photographs("hopper")[0].mask((112, 112)).float().mean() > 0.4
        tensor(True)
        """
        image = self.image()
        drawn = Image.new("L", image.size)
        ImageDraw.Draw(drawn).polygon([(x * image.width / 100, y * image.width / 100) for x, y in self.outline], 255)
        return torch.from_numpy(np.array(ImageOps.fit(drawn, size[::-1], Image.Resampling.BICUBIC)) > 127)[None]


_LEARN = Library("scikit-learn", "sklearn", "datasets/images")
_MATPLOTLIB = Library("matplotlib", "matplotlib", "mpl-data/sample_data")
_IMAGE = Library("scikit-image", "skimage", "data")
_BY, _CC0, _PUBLIC = "CC BY 2.0", "CC0", "public domain"
_FLICKR = "https://flickr.com/photos"
_SKIMAGE = "https://scikit-image.org/docs/stable/api/skimage.data.html#skimage.data"
_HOPPER = "https://commons.wikimedia.org/wiki/File:Grace_Hopper.jpg"

# scikit-learn's README writes the first photographer's name below both photographs, but beside the second's address.
_ROWS = (
    ("china", _LEARN, "china.jpg", "Pagoda in China", "danielbuechele", _BY, f"{_FLICKR}/danielbuechele/6061409035"),
    ("flower", _LEARN, "flower.jpg", "Dahlia", "vultilion", _BY, f"{_FLICKR}/vultilion/6056698931"),
    ("hopper", _MATPLOTLIB, "grace_hopper.jpg", "Grace Hopper", "James S. Davis, U.S. Navy", _PUBLIC, _HOPPER),
    ("cat", _IMAGE, "chelsea.png", "Chelsea, a cat", "Stefan van der Walt", _CC0, f"{_SKIMAGE}.cat"),
    ("astronaut", _IMAGE, "astronaut.png", "Astronaut Eileen Collins", "NASA", _PUBLIC, "https://flic.kr/p/r9qvLn"),
    ("coffee", _IMAGE, "coffee.png", "Cup of coffee", "Rachel Michetti", _CC0, f"{_SKIMAGE}.coffee"),
    ("rocket", _IMAGE, "rocket.jpg", "Falcon 9 rocket", "SpaceX", _PUBLIC, f"{_FLICKR}/spacexphotos/16511594820"),
)
_OUTLINES = {
    "china": "32,4 36,10 45,16 50,20 45,24 53,29 50,32 52,37 55,42 52,46 57,55 52,60 30,62 14,58 13,52 15,46 12,40 "
    "16,35 15,30 19,26 14,20 24,14 29,10",
    "flower": "48,13 56,14 63,19 68,26 70,34 68,43 64,50 57,55 48,56 39,54 32,48 28,41 27,33 29,25 34,19 41,14",
    "hopper": "33,15 38,6 50,3 62,6 67,14 72,17 72,26 68,29 70,38 72,50 68,58 70,64 85,71 97,76 100,90 100,117 3,117 "
    "5,85 10,75 25,70 38,64 33,57 30,48 31,38 35,30 30,26 30,17",
    "cat": "0,60 8,45 10,0 75,0 86,2 80,12 78,20 76,32 74,45 68,55 66,67 0,67",
    "astronaut": "30,12 36,5 44,3 54,6 59,14 58,22 53,28 52,31 58,36 60,48 66,55 68,66 74,67 82,66 90,72 97,86 98,100 "
    "2,100 6,80 10,60 14,53 24,48 24,38 30,31 36,29 30,22",
    "coffee": "29,12 33,6 40,3 48,2 57,4 64,9 70,12 75,20 79,30 80,38 77,48 70,57 60,63 48,65 35,63 25,58 17,50 13,40 "
    "14,30 19,20 26,14",
    "rocket": "48,66 48.3,25 50,20 52,25 52.3,66",
}


def _points(outline: str) -> tuple[tuple[float, float], ...]:
    """Pairs of numbers.

    >>> _points("1,2 3.5,4")
    ((1.0, 2.0), (3.5, 4.0))
    """
    pairs = (pair.split(",") for pair in outline.split())
    return tuple((float(x), float(y)) for x, y in pairs)


PHOTOGRAPHS = {row[0]: Photograph(*row, _points(_OUTLINES[row[0]])) for row in _ROWS}


def photographs(*names: str) -> list[Photograph]:
    """The photographs named, in this order; without a name all of them. Raises PeftlabError with the near names.

    >>> [photo.name for photo in photographs()]
    ['china', 'flower', 'hopper', 'cat', 'astronaut', 'coffee', 'rocket']
    >>> photographs("coffee")[0].caption
    'Cup of coffee. Photograph: Rachel Michetti, CC0; from scikit-image.'
    """
    for name in names:
        check_choice("photograph", name, PHOTOGRAPHS)
    return [PHOTOGRAPHS[name] for name in names or PHOTOGRAPHS]
