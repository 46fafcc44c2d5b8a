"""Photographs that come with libraries which are installed anyway: no download, no labels, each with its credit.

Credits are those of the libraries: scikit-learn's datasets/images/README.txt, the docstrings of skimage.data, and the
page that matplotlib's file names as its source.
"""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps

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
PHOTOGRAPHS = {row[0]: Photograph(*row) for row in _ROWS}


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
