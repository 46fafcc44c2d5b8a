"""Augmentation: training images changed at random in each epoch, as released recipes do it, by timm's transforms.

crop: timm's default crop and flip, as in SSF's --simple-aug. shift: 224 of 256 pixels, as VPT and GIFT crop FGVC.
randaugment: SCT's. All start from images that were resized already, which have less detail to crop from than files.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from timm.data import create_transform
from torch import Tensor

from ..backbones.types import Pixels

SHIFT = (224 / 256) ** 2  # of the area


def augmented(
    pixels: Pixels, rows: Int64[Tensor, " batch"], augmentation: str, seed: int, epoch: int
) -> UInt8[Tensor, "batch height width 3"]:
    """Images [B, H, W, 3] as a key of AUGMENTATIONS changes them. rows: their numbers among the training images.

    What becomes of an image follows from seed, epoch and its number alone, whatever the batch or the method.
    """
    _, height, width, _ = pixels.shape
    change = transform(augmentation, (height, width))
    made = []
    for image, row in zip(pixels, rows.tolist(), strict=True):
        with drawing_from(seed, epoch, row):
            made.append(change(Image.fromarray(image.numpy())))
    return torch.stack(made).permute(0, 2, 3, 1)


def transform(augmentation: str, size: tuple[int, int]) -> Callable[[Image.Image], UInt8[Tensor, "3 height width"]]:
    """The transform of an image for a key of AUGMENTATIONS other than "none". size: height and width."""
    height, width = size
    ways: dict[str, dict[str, Any]] = {
        "crop": {"interpolation": "random"},  # bilinear or bicubic
        "shift": {"scale": (SHIFT, SHIFT), "ratio": (width / height,) * 2, "interpolation": "bilinear"},
        "randaugment": {"auto_augment": "rand-m9-mstd0.5-inc1", "interpolation": "bicubic"},
    }
    how = {"color_jitter": None, "use_prefetcher": True} | ways[augmentation]  # use_prefetcher: gives 8-bit tensors
    made = create_transform((3, height, width), is_training=True, **how)
    if augmentation == "randaugment":
        del made.transforms[0]  # the crop, in whose place SCT resizes
    return made


@contextmanager
def drawing_from(*seed: int) -> Iterator[None]:
    """Within, torch (on the CPU), numpy and random draw what follows from a seed; afterwards they go on as before.

    timm's transforms draw from all three.
    """
    number = int(np.random.SeedSequence(seed).generate_state(1)[0])
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(number)  # torch.manual_seed would reach GPUs, too
        random.seed(number)
        np.random.seed(number)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
