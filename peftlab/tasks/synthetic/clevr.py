"""Synthetic tasks after VTAB's two CLEVR tasks: spheres, cubes and cylinders on a grey floor, ray-cast at 64x64.

Colours, materials, two sizes, 3 to 10 objects and the rule that none is hidden follow Johnson et al., "CLEVR" (2017);
the thresholds are VTAB's (Zhai et al. 2019). The camera is ours: a narrower view from a higher place, so that small
objects stay distinguishable at 64 px and every distance class can be filled. Both tasks are balanced on purpose.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy.random import Generator

from .raycast import Camera, Scene, masks, render
from .solids import Solid, first_hits, turn_z

COUNTS = tuple(f"{n} objects" for n in range(3, 11))
CUTS = (8.0, 8.5, 9.0, 9.5, 10.0)
DISTANCES = ("below 8", "8 to 8.5", "8.5 to 9", "9 to 9.5", "9.5 to 10", "10 and more")
SIZE = 64
SMALLEST = 14  # pixels of 64x64 that must be visible of each object; CLEVR asks for 200 of 320x240, the same share

SHAPES = ("cube", "sphere", "cylinder")
RADII = {"small": 0.4, "large": 0.75}
COLOURS = {
    "gray": (87, 87, 87),
    "red": (173, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 105, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
}

Placed: TypeAlias = tuple[Float[np.ndarray, "3"], str, str]  # centre, shape and size of an object that stands


def _camera(rng: Generator) -> Camera:
    """About 9.6 from the middle of the floor and 38 degrees above it, a little moved in each scene."""
    distance, height = rng.uniform(9.4, 9.8), np.radians(rng.uniform(36, 40))
    eye = distance * np.array([0.0, -np.cos(height), np.sin(height)])
    return Camera(eye + [rng.uniform(-0.3, 0.3), 0, 0], np.zeros(3), np.radians(37))


def _half(shape: str, size: str) -> float:
    """Half the height of an object. CLEVR's cubes are smaller by sqrt(2), so that RADII is every shape's footprint."""
    return RADII[size] / (np.sqrt(2) if shape == "cube" else 1)


def _place(
    rng: Generator,
    camera: Camera,
    shape: str,
    size: str,
    placed: Sequence[Placed],
    nearest: float,
    farthest: float,
) -> Float[np.ndarray, "3"] | None:
    """A free spot on the floor, inside the frame, with depth in [nearest, farthest) -> centre, or None."""
    x, y, radius = rng.uniform(-3.8, 3.8, 200), rng.uniform(-2.8, 3.8, 200), RADII[size]
    spots = np.stack([x, y, np.full(200, _half(shape, size))], axis=1)
    across, up, depth = camera.project(spots).T
    edge = 0.95 - 1.3 * radius / (depth * np.tan(camera.view / 2))
    free = (np.abs(across) < edge) & (np.abs(up) < edge) & (depth >= nearest) & (depth < farthest)
    for centre, _, other in placed:
        free &= np.hypot(*(spots - centre)[:, :2].T) > radius + RADII[other] + 0.25
    return spots[free.argmax()] if free.any() else None


def _layout(rng: Generator, camera: Camera, count: int, bounds: tuple[float, float]) -> list[Placed] | None:
    """Centres, shapes and sizes of `count` objects, or None when the floor got too full.

    bounds: (low, high) that the depth of the nearest object has to meet.
    """
    placed: list[Placed] = []
    for k in range(count):
        shape, size = str(rng.choice(SHAPES)), str(rng.choice(list(RADII)))
        high = bounds[1] if k == 0 else np.inf  # one object decides the class, the others only must not be nearer
        centre = _place(rng, camera, shape, size, placed, bounds[0], high)
        if centre is None:
            return None
        placed.append((centre, shape, size))
    return placed


def _solid(
    rng: Generator, centre: Float[np.ndarray, "3"], shape: str, size: str, number: int
) -> tuple[Solid, dict[str, Any]]:
    """One object in a random colour and material -> (Solid, its factors)."""
    colour, metal = str(rng.choice(list(COLOURS))), bool(rng.random() < 0.5)
    paint, turn = np.array(COLOURS[colour]) / 255 * 1.1, turn_z(rng.uniform(0, 2 * np.pi))
    factors = {"shape": shape, "size": size, "colour": colour, "material": "metal" if metal else "rubber"}
    solid = Solid(shape, centre, np.full(3, _half(shape, size)), paint, turn, metal, number)
    return solid, factors | {"centre": centre.round(3).tolist()}


def scene(
    rng: Generator, count: int, bounds: tuple[float, float] = (0.0, np.inf)
) -> tuple[Scene, Camera, tuple[dict[str, Any], ...]]:
    """A scene with `count` objects, each at least SMALLEST pixels visible -> (Scene, Camera, factors of each object).

    Solid.id is 1 .. count, so that each object has a mask of its own in `masks`.

    >>> world, camera, factors = scene(np.random.default_rng(0), count=3)
    >>> [solid.id for solid in world.solids], sorted(factors[0])
    ([1, 2, 3], ['centre', 'colour', 'material', 'shape', 'size'])
    """
    while True:
        camera = _camera(rng)
        layout = _layout(rng, camera, count, bounds)
        if layout is None:
            continue
        solids, factors = zip(*(_solid(rng, *what, k + 1) for k, what in enumerate(layout)), strict=True)
        seen = first_hits(solids, camera.eye, camera.rays(SIZE, SIZE))[1]
        if np.bincount(seen[seen >= 0], minlength=count).min() >= SMALLEST:
            lamp = np.array([-5.0, -4.0, 8.0]) + rng.uniform(-1, 1, 3)
            return Scene(solids, lamp, np.full(3, 0.66)), camera, factors


def scene_count(index: int, rng: Generator) -> tuple[Scene, Camera, tuple[dict[str, Any], ...]]:
    """The scene of an image of clevr_count."""
    return scene(rng, index % len(COUNTS) + 3)


def scene_dist(index: int, rng: Generator) -> tuple[Scene, Camera, tuple[dict[str, Any], ...]]:
    """The scene of an image of clevr_dist."""
    label = index % len(DISTANCES)
    return scene(rng, int(rng.integers(3, 11)), ((0.0, *CUTS)[label], (*CUTS, np.inf)[label]))


def drawn(
    world: Scene, camera: Camera, objects: Sequence[dict[str, Any]]
) -> tuple[UInt8[np.ndarray, "64 64 3"], dict[str, Any]]:
    """A scene as `scene` gives it -> (image, factors)."""
    depths = camera.project(np.stack([solid.centre for solid in world.solids]))[:, 2]
    factors = {"objects": list(objects), "nearest": round(float(depths.min()), 3)}
    return render(world, camera, SIZE), factors


def draw_count(index: int, rng: Generator) -> tuple[UInt8[np.ndarray, "64 64 3"], int, dict[str, Any]]:
    """clevr_count: label = objects - 3."""
    image, factors = drawn(*scene_count(index, rng))
    return image, index % len(COUNTS), factors


def draw_dist(index: int, rng: Generator) -> tuple[UInt8[np.ndarray, "64 64 3"], int, dict[str, Any]]:
    """clevr_dist: the class of the nearest object's depth (along the camera axis, as CLEVR's pixel_coords have it)."""
    image, factors = drawn(*scene_dist(index, rng))
    return image, index % len(DISTANCES), factors


def masks_count(index: int, rng: Generator) -> Bool[np.ndarray, "objects 64 64"]:
    """Where each object is in an image of clevr_count, in the order of its factors."""
    return masks(*scene_count(index, rng)[:2], SIZE)


def masks_dist(index: int, rng: Generator) -> Bool[np.ndarray, "objects 64 64"]:
    """Where each object is in an image of clevr_dist, in the order of its factors."""
    return masks(*scene_dist(index, rng)[:2], SIZE)
