"""dSprites drawn anew from its own factors (Matthey et al. 2017): one white sprite on black, 64x64, two grey values.

Factors: shape {square, ellipse, heart} x 6 scales x 40 orientations x 32 x positions x 32 y positions = 737,280
images, of which each task draws 1,500 without replacement. Labels are VTAB's: 16 bins of the x position, or of the
orientation index.

Orientation has a ceiling below 100 %. The 40 angles are linspace(0, 2 pi, 40): the first and the last are the same,
in different classes. That alone costs 1 image in 40; counting every orientation whose pixels are the same, the best
possible accuracy is 96.9 %. Squares repeat every 90 degrees and ellipses every 180; because 39 steps are not divisible
by 4 or 2, the repeats miss one another by 2.3 to 4.6 degrees, which a sprite of 10 to 20 pixels hardly shows. Who sees
the symmetric angle to one step (9.2 degrees) but not the miss can tell 1 of 4 square, 1 of 2 ellipse and all heart
orientations: about 58 %.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from numpy.random import Generator

SIZE = 64
SHAPES = ("square", "ellipse", "heart")
SCALES = np.linspace(0.5, 1, 6)
ANGLES = np.linspace(0, 2 * np.pi, 40)
POSITIONS = np.linspace(0, 1, 32)
GRID = (len(SHAPES), len(SCALES), len(ANGLES), len(POSITIONS), len(POSITIONS))

LOCATIONS = tuple(f"x {2 * k} to {2 * k + 1}" for k in range(16))
ORIENTATIONS = tuple(
    f"{np.degrees(turns[0]):.0f} to {np.degrees(turns[-1]):.0f} degrees"
    for turns in (ANGLES[[i for i in range(40) if i * 16 // 40 == k]] for k in range(16))
)


def _inside(
    shape: str, u: Float[np.ndarray, "height width"], v: Float[np.ndarray, "height width"]
) -> Bool[np.ndarray, "height width"]:
    """Where the sprite of scale 1 is. u right, v up, in pixels from its middle.

    As large as the published sprites: a square of 19.5 pixels, half axes of 12.9 and 7.2, a heart of 220 pixels.
    """
    if shape == "square":
        return np.maximum(abs(u), abs(v)) <= 9.7
    if shape == "ellipse":
        return (u / 7.2) ** 2 + (v / 12.9) ** 2 <= 1
    # Two discs side by side, and below them a tip whose sides are their tangents (40 degrees from the vertical).
    tip = (abs(u) <= 0.84 * (v + 10)) & (v <= 0.3)
    between = (abs(u) <= 4.8) & (v > 0) & (v <= 3.5)
    return tip | between | ((abs(u) - 4.8) ** 2 + (v - 3.5) ** 2 <= 5**2)


def sprite(shape: str, scale: float, angle: float, x: float, y: float) -> UInt8[np.ndarray, "64 64"]:
    """0 or 255. scale in [0.5, 1], angle in radians clockwise, x and y in [0, 1] from the top left.

    >>> int((sprite("square", scale=1, angle=0, x=0.5, y=0.5) > 0).sum())  # pixels: 20 x 20
    400
    """
    rows, columns = np.mgrid[:SIZE, :SIZE]
    right, up = columns - (15.5 + 32 * x), (15.5 + 32 * y) - rows
    c, s = np.cos(angle), np.sin(angle)
    inside = _inside(shape, (c * right - s * up) / scale, (s * right + c * up) / scale)
    return inside.astype(np.uint8) * 255


@lru_cache
def _draw_order(task: int) -> Int[np.ndarray, "1500"]:
    """The numbers of the drawn factor tuples, no two alike. task keeps the two draws independent."""
    return np.random.default_rng((0, task)).choice(np.prod(GRID), 1500, replace=False)


def _drawn(index: int, task: int) -> tuple[UInt8[np.ndarray, "64 64"], dict[str, int]]:
    """-> (image, indices of shape, scale, orientation, x, y as a dict)."""
    tuple_ = [int(i) for i in np.unravel_index(_draw_order(task)[index], GRID)]
    shape, scale, turn, x, y = tuple_
    image = sprite(SHAPES[shape], SCALES[scale], ANGLES[turn], POSITIONS[x], POSITIONS[y])
    return image, dict(zip(("shape", "scale", "orientation", "x", "y"), tuple_, strict=True))


def draw_loc(index: int, rng: Generator) -> tuple[UInt8[np.ndarray, "64 64"], int, dict[str, int]]:
    """dsprites_loc: label = x index // 2. The tuple comes from one draw over all images, so `rng` is not needed."""
    image, factors = _drawn(index, task=0)
    return image, factors["x"] // 2, factors


def draw_ori(index: int, rng: Generator) -> tuple[UInt8[np.ndarray, "64 64"], int, dict[str, int]]:
    """dsprites_ori: label = int(orientation index * 16 / 40)."""
    image, factors = _drawn(index, task=1)
    return image, factors["orientation"] * 16 // 40, factors


def masks_loc(index: int, rng: Generator) -> Bool[np.ndarray, "1 64 64"]:
    """The sprite of an image of dsprites_loc."""
    return _drawn(index, task=0)[0][None] > 0


def masks_ori(index: int, rng: Generator) -> Bool[np.ndarray, "1 64 64"]:
    """The sprite of an image of dsprites_ori."""
    return _drawn(index, task=1)[0][None] > 0
