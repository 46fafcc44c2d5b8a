"""Drawn scenes with what a Photograph has: a name, a caption, pixels and the mask of what they show."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor

from ...backbones.types import Pixels
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
