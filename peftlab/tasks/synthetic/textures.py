"""A synthetic task after EuroSAT in kind: land seen from above, eight classes of procedural texture, 64x64 RGB.

Each class is a pattern; its colours come from palettes that overlap between classes (water may be green, ice grey,
fields brown like dunes), and haze and light vary, so that colour alone does not tell the class.
"""

from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int, UInt8
from numpy.random import Generator

CLASSES = ("water", "forest", "fields", "orchard", "town", "road", "dunes", "ice")
SIZE = 64

Palette: TypeAlias = tuple[tuple[int, int, int], ...]
Colour: TypeAlias = Float[np.ndarray, "3"]  # RGB in [0, 255], as in the images
Plane: TypeAlias = Float[np.ndarray, "64 64"]
ColourImage: TypeAlias = Float[np.ndarray, "64 64 3"]

GREEN = ((52, 84, 50), (84, 112, 62), (110, 128, 74), (64, 96, 70))
BROWN = ((150, 120, 90), (176, 148, 108), (128, 104, 84), (190, 166, 130))
BLUE = ((44, 78, 110), (60, 100, 116), (76, 108, 98), (90, 124, 142))
GREY = ((134, 134, 132), (156, 152, 146), (116, 120, 124), (176, 176, 174))
PALE = ((222, 228, 232), (198, 212, 222), (206, 202, 192), (232, 230, 224))


def _pick(rng: Generator, *palettes: Palette) -> Colour:
    """A colour from one of the palettes, a little changed."""
    colours = [colour for palette in palettes for colour in palette]
    return np.array(colours[rng.integers(len(colours))]) + rng.normal(0, 7, 3)


def _blurred(field: Plane, width: float | tuple[float, float], mode: str = "reflect") -> Plane:
    from scipy.ndimage import gaussian_filter  # here, as it takes long to import, and who reads a task draws none

    return gaussian_filter(field, width, mode=mode)


def _noise(rng: Generator, width: float, stretch: float = 1.0) -> Plane:
    """Smooth noise of mean 0 and deviation 1; `width` in pixels, `stretch` times wider along the rows."""
    field = _blurred(rng.normal(size=(SIZE, SIZE)), (width, width * stretch), mode="wrap")
    return (field - field.mean()) / field.std()


def _turned(rng: Generator, bend: float = 0.0) -> tuple[Plane, Plane]:
    """Coordinates (u, v) in pixels about the middle, turned at random; bend: pixels of smooth distortion."""
    rows, columns = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    angle = rng.uniform(0, np.pi)
    u, v = np.cos(angle) * columns - np.sin(angle) * rows, np.sin(angle) * columns + np.cos(angle) * rows
    return (u + bend * _noise(rng, 9), v + bend * _noise(rng, 9)) if bend else (u, v)


def _blend(weight: Plane, one: Colour | ColourImage, two: Colour | ColourImage) -> ColourImage:
    """Mix two colours or images by weight: 0 gives the first."""
    weight = np.clip(weight, 0, 1)[..., None]
    return (1 - weight) * one + weight * two


def _rotated(rng: Generator, field: Plane) -> Plane:
    """A texture turned at random about the middle."""
    from scipy.ndimage import map_coordinates

    u, v = _turned(rng)
    return map_coordinates(field, [v + SIZE / 2, u + SIZE / 2], order=1, mode="wrap")


def water(rng: Generator) -> ColourImage:
    """Smooth, with faint ripples and sometimes a lighter shallow."""
    ripples = _rotated(rng, _noise(rng, 0.7, rng.uniform(3, 6)))
    base = _blend(0.5 + 0.25 * _noise(rng, 14), _pick(rng, BLUE, GREEN), _pick(rng, BLUE))
    return base + rng.uniform(2, 5) * ripples[..., None]


def forest(rng: Generator) -> ColourImage:
    """Round crowns: light on one side, dark gaps in between."""
    crowns = _noise(rng, rng.uniform(1.0, 1.6))
    relief = crowns - np.roll(crowns, (1, 1), (0, 1))
    ground = _blend(0.5 + 0.3 * _noise(rng, 8), _pick(rng, GREEN), _pick(rng, GREEN, BROWN[2:3]))
    return 0.8 * ground + (9 * crowns + 14 * relief)[..., None]


def _parcels(rng: Generator, count: int) -> tuple[Int[np.ndarray, "64 64"], Plane]:
    """A stretched Voronoi diagram -> (number of each pixel's parcel, distance to the parcel's border)."""
    u, v = _turned(rng)
    seeds = rng.uniform(-SIZE / 2, SIZE / 2, (count, 2)) * 1.2
    across, along = abs(u[..., None] - seeds[:, 0]), abs(v[..., None] - seeds[:, 1])
    distance = np.sort(np.maximum(across, 0.6 * along), axis=-1)
    return np.maximum(across, 0.6 * along).argmin(-1), distance[..., 1] - distance[..., 0]


def fields(rng: Generator) -> ColourImage:
    """A patchwork of parcels with furrows and thin borders."""
    parcel, border = _parcels(rng, int(rng.integers(6, 14)))
    image = np.zeros((SIZE, SIZE, 3))
    for number in np.unique(parcel):
        furrows = np.sin(_turned(rng)[0] * rng.uniform(1.2, 2.2)) * rng.uniform(0, 7)
        image[parcel == number] = (_pick(rng, GREEN, BROWN, BROWN) + furrows[..., None])[parcel == number]
    return _blend((border < 1) * 0.5, image, _pick(rng, GREEN)) + 3 * _noise(rng, 1)[..., None]


def orchard(rng: Generator) -> ColourImage:
    """Trees on a grid, on grass or bare soil, each with a dark side."""
    u, v = _turned(rng, bend=0.6)
    pitch, ratio = rng.uniform(5, 8), rng.uniform(1, 1.4)
    crown = np.cos(2 * np.pi * u / pitch) + np.cos(2 * np.pi * v / (pitch * ratio)) + 0.25 * _noise(rng, 1)
    soil = _blend(0.5 + 0.3 * _noise(rng, 8), _pick(rng, BROWN, GREEN[2:3]), _pick(rng, BROWN))
    trees = _blend(3 * (crown - 0.5), soil, 0.85 * _pick(rng, GREEN))
    return trees - 25 * (np.clip(np.roll(crown, (1, 1), (0, 1)) - crown, 0, 1))[..., None]


def town(rng: Generator) -> ColourImage:
    """Blocks of roofs in rows between streets, with shadows."""
    u, v = _turned(rng)
    long, wide = rng.uniform(5, 9), rng.uniform(5, 8)
    column, row = np.floor(u / long).astype(int), np.floor(v / wide).astype(int)
    street = (column % int(rng.integers(3, 5)) == 0) | (row % int(rng.integers(4, 6)) == 0)
    inside = (u % long > 1.2) & (v % wide > 1.6) & ~street
    roofs = np.array([_pick(rng, GREY, BROWN, PALE[2:3]) + rng.normal(0, 12) for _ in range(64)])
    built = rng.random(64) < 0.85
    lot = (column * 7 + row * 13) % 64
    ground = _blend(0.5 + 0.3 * _noise(rng, 5), _pick(rng, GREEN, GREY), _pick(rng, GREY))
    image = np.where(street[..., None], _pick(rng, GREY) * 0.75, ground * 0.9)
    roof = inside & built[lot]
    shadow = np.roll(roof, (1, 1), (0, 1)) & ~roof
    return np.where(roof[..., None], roofs[lot], image * np.where(shadow, 0.55, 1)[..., None]) + rng.normal(0, 3)


def road(rng: Generator) -> ColourImage:
    """A bright or dark band with verges across quiet land; sometimes a second one crosses it."""
    land = _blend(0.5 + 0.35 * _noise(rng, 7), _pick(rng, GREEN, BROWN), _pick(rng, GREEN, BROWN))
    land = land + 4 * _noise(rng, 1)[..., None]
    asphalt, half = _pick(rng, GREY), rng.uniform(2, 4)
    for _ in range(1 + (rng.random() < 0.4)):
        u, _ = _turned(rng)
        u = abs(u + rng.uniform(-10, 10) + rng.uniform(0, 5) * _noise(rng, 16))
        land = _blend((half + 2.5 - u) / 1.5, land, 0.8 * _pick(rng, GREEN, BROWN))
        land = _blend(half - u, land, asphalt)
        land = _blend((0.9 - u) * (half > 2.8), land, asphalt + 45)
    return land


def dunes(rng: Generator) -> ColourImage:
    """Bent parallel ridges with a lit and a shaded flank."""
    u, _ = _turned(rng, bend=rng.uniform(1.5, 3.5))
    phase = u / rng.uniform(7, 13) % 1
    flank = np.where(phase < 0.7, phase / 0.7, (1 - phase) / 0.3)  # slow rise, steep fall
    sand = _pick(rng, BROWN, BROWN, GREY[1:2], PALE[2:3])
    return sand + 30 * (_blurred(flank, 0.7) - 0.5)[..., None] + 2.5 * _noise(rng, 0.7)[..., None]


def ice(rng: Generator) -> ColourImage:
    """Pale floes with dark cracks and leads between them."""
    seeds = rng.uniform(0, SIZE, (int(rng.integers(10, 30)), 2))
    spots = np.mgrid[:SIZE, :SIZE] + 1.5 * np.stack([_noise(rng, 3), _noise(rng, 3)])
    far = np.hypot(*(spots[..., None] - seeds.T[:, None, None]))
    near = np.sort(far, axis=-1)
    tint = rng.normal(0, 8, len(seeds))[far.argmin(-1)]
    floes = _pick(rng, PALE, PALE, GREY[3:]) + (tint + 4 * _noise(rng, 2))[..., None]
    return _blend(rng.uniform(0.8, 2.5) - (near[..., 1] - near[..., 0]), floes, _pick(rng, BLUE))


PATTERNS = (water, forest, fields, orchard, town, road, dunes, ice)


def draw(index: int, rng: Generator) -> tuple[UInt8[np.ndarray, "64 64 3"], int, dict[str, float]]:
    """-> (image, label, factors).

    >>> image, label, factors = draw(3, np.random.default_rng(0))
    >>> image.shape, CLASSES[label]
    ((64, 64, 3), 'orchard')
    """
    label = index % len(CLASSES)
    light, haze = rng.uniform(0.8, 1.1), rng.uniform(0, 0.25)
    image = light * PATTERNS[label](rng) * (1 - haze) + haze * np.array([186, 190, 196])
    image = image + rng.normal(0, 2, image.shape)
    return np.clip(np.round(image), 0, 255).astype(np.uint8), label, {"light": round(light, 3), "haze": round(haze, 3)}
