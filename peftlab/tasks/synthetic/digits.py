"""A synthetic task after SVHN: the class is the central digit; parts of other digits may stand left and right of it.

Digits are set in the DejaVu fonts that ship with matplotlib, a little turned, on coloured walls with gradients, stains
and edges, dark on light or light on dark, blurred and noisy. 64x64 RGB.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter, ImageFont

CLASSES = tuple("0123456789")
SIZE = 64
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono-Bold", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSansMono")


@lru_cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    import matplotlib  # here, as it takes long to import, and who reads a task draws none

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf", size)


def _paint(rng: Generator, lightness: float) -> Float[np.ndarray, "3"]:
    """RGB of random hue and weak saturation around a lightness in [0, 1]."""
    return np.clip(lightness + rng.normal(0, 0.07, 3), 0, 1)


def _wall(rng: Generator, lightness: float) -> Float[np.ndarray, "64 64 3"]:
    """A gradient between two related colours, a few soft stains, and sometimes an edge."""
    rows, columns = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    ramp = 0.5 + np.cos(angle) * rows + np.sin(angle) * columns
    one, two = _paint(rng, lightness), _paint(rng, lightness)
    wall = one + ramp[..., None] * (two - one)
    stains = Image.fromarray(rng.normal(size=(5, 5)).astype(np.float32))
    wide = np.asarray(stains.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    wall += rng.uniform(0.02, 0.09) * wide[..., None]
    if rng.random() < 0.5:  # a board, a frame or a mortar joint
        angle, place = rng.uniform(0, np.pi), rng.uniform(-0.45, 0.45)
        beyond = np.cos(angle) * rows + np.sin(angle) * columns > place
        wall += beyond[..., None] * rng.normal(0, 0.08, 3)
    return wall


def _digits(rng: Generator, centre: int, font_name: str) -> Float[np.ndarray, "64 64"]:
    """Where the ink is, in [0, 1]. The central digit, and in most images neighbours cut by the edge."""
    size = int(rng.integers(34, 60))
    font, mask = _font(font_name, size), Image.new("L", (2 * SIZE, SIZE))
    pen = ImageDraw.Draw(mask)
    x, y = SIZE + rng.uniform(-5, 5), SIZE / 2 + rng.uniform(-6, 6)
    pen.text((x, y), str(centre), fill=255, font=font, anchor="mm")
    pitch = size * rng.uniform(0.62, 0.74)
    for side in (-1, 1):
        if rng.random() < 0.7:
            pen.text((x + side * pitch, y), str(rng.integers(10)), fill=255, font=font, anchor="mm")
    mask = mask.rotate(rng.uniform(-18, 18), Image.Resampling.BICUBIC, center=(SIZE, SIZE // 2))
    return np.asarray(mask.crop((SIZE // 2, 0, 3 * SIZE // 2, SIZE))) / 255


def draw(index: int, rng: Generator) -> tuple[UInt8[np.ndarray, "64 64 3"], int, dict[str, Any]]:
    """-> (image, label = the central digit, factors).

    >>> image, label, factors = draw(7, np.random.default_rng(0))
    >>> image.shape, label, sorted(factors)
    ((64, 64, 3), 7, ['blur', 'font', 'light_on_dark'])
    """
    label, font = index % len(CLASSES), str(rng.choice(FONTS))
    dark = rng.uniform(0.1, 0.5)
    light = dark + rng.uniform(0.22, 0.5)
    inverted = bool(rng.random() < 0.5)
    behind, front = (dark, light) if inverted else (light, dark)
    wall, ink = _wall(rng, behind), _paint(rng, front)
    mask = _digits(rng, label, font)[..., None]
    image = Image.fromarray(np.round(255 * np.clip(wall * (1 - mask) + ink * mask, 0, 1)).astype(np.uint8))
    blur = float(rng.uniform(0.6, 2.2))
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(blur)))
    noisy = soft + rng.normal(0, rng.uniform(1, 9), soft.shape)
    factors = {"font": font, "light_on_dark": inverted, "blur": round(blur, 2)}
    return np.clip(np.round(noisy), 0, 255).astype(np.uint8), label, factors
