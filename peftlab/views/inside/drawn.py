"""Images as explorers show them: photographs, and drawn scenes with what a Photograph has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor

from ...backbones.preprocess import input_size
from ...backbones.types import Pixels
from ...common.errors import PeftlabError
from ...methods.core.model import PeftModel
from ...tasks.synthetic.registry import SIZES, SYNTHETIC, draw, object_masks


@runtime_checkable
class Pictured(Protocol):
    """A photograph or a drawn scene."""

    @property
    def name(self) -> str: ...
    @property
    def caption(self) -> str: ...
    def pixels(self, size: tuple[int, int]) -> Pixels: ...
    def mask(self, size: tuple[int, int]) -> Bool[Tensor, "1 height width"]: ...


SHOWN = (336, 336)  # pixels: images are shown finer than models read them


def pictures(images: Sequence[Pictured]) -> list[tuple[Image.Image, str]]:
    """The `pictures` of an Explorer: each image with its caption."""
    return [(Image.fromarray(image.pixels(SHOWN)[0].numpy()), image.caption) for image in images]


def common_size(models: Mapping[str, PeftModel]) -> tuple[int, int]:
    """(height, width) in pixels that all models read. Raises PeftlabError where they differ."""
    size = input_size(next(iter(models.values())).vit)
    for name, model in models.items():
        if input_size(model.vit) != size:
            raise PeftlabError(f"{name} reads images of {input_size(model.vit)} pixels, but the first model of {size}")
    return size


@dataclass(frozen=True)
class DrawnScene:
    """An image of the test split of a synthetic task, from row 0 on."""

    task: str
    row: int

    @property
    def name(self) -> str:
        return f"scene {self.row + 1}"

    @property
    def caption(self) -> str:
        """What it shows.

        >>> DrawnScene("clevr_count", 0).caption
        'A drawn scene: 3 objects.'
        """
        return f"A drawn scene: {SYNTHETIC[self.task].classes[self._drawn()[1]]}."

    def _drawn(self) -> tuple[np.ndarray, int, dict]:
        return draw(self.task, SIZES["train800"] + SIZES["val200"] + self.row)

    def pixels(self, size: tuple[int, int]) -> Pixels:
        """A batch of one, as `Photograph.pixels` gives it.

        >>> DrawnScene("clevr_count", 0).pixels((112, 112)).shape
        torch.Size([1, 112, 112, 3])
        """
        image = Image.fromarray(self._drawn()[0]).convert("RGB").resize(size[::-1], Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(image))[None]

    def mask(self, size: tuple[int, int]) -> Bool[Tensor, "1 height width"]:
        """Where in `pixels(size)` its objects are. Raises PeftlabError for a task without objects."""
        whole = object_masks(self.task, "test", [self.row])[0].any(0)
        return torch.from_numpy(np.array(Image.fromarray(whole).resize(size[::-1], Image.Resampling.NEAREST)))[None]
