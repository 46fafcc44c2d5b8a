"""Synthetic tasks after VTAB's two SmallNORB tasks: grey toys on a turntable, ray-cast at 64x64.

As in LeCun et al. (2004): five categories, 18 azimuths (20 degrees apart), 9 elevations of the camera (30 to 70
degrees, 5 apart), six lightings, and test images that show other instances of the categories than the training images
do. The toys are ours: built of boxes, ellipsoids and cylinders, facing +x at azimuth 0, of about 2 units in length.
"""

import zlib
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy.random import Generator

from .raycast import Camera, Scene, masks, render
from .solids import Solid, turn_z

AZIMUTHS = tuple(f"{20 * k} degrees" for k in range(18))
ELEVATIONS = tuple(f"{30 + 5 * k} degrees" for k in range(9))
SIZE = 64
INSTANCES = 5  # of each category in training, and five others in the test images
FIRST_TEST = 1000  # index of the first test image
LAMPS = ((-4, -3, 6), (4, -3, 6), (-3, 3, 7), (3, 3, 7), (0, -5, 6), (-1, 0, 8))  # turn with the camera, not the toy

Triple: TypeAlias = tuple[float, float, float]
Part: TypeAlias = tuple[str, Float[np.ndarray, "3"], Float[np.ndarray, "3"], int]
Draw: TypeAlias = Callable[[float, float], float]  # a proportion of a toy, between low and high


def _part(shape: str, centre: Triple, half: Triple, axis: int = 2) -> Part:
    """(shape, centre, half sizes along x, y, z, axis of a cylinder: 0, 1 or 2)."""
    return shape, np.array(centre), np.array(half), axis


def _pair(shape: str, centre: Triple, half: Triple, axis: int = 2) -> list[Part]:
    """The same part left and right."""
    x, y, z = centre
    return [_part(shape, (x, y, z), half, axis), _part(shape, (x, -y, z), half, axis)]


def animal(u: Draw) -> list[Part]:
    """Body, neck, head with snout and ears, tail, four legs."""
    long, fat, leg, reach = u(0.46, 0.6), u(0.22, 0.34), u(0.22, 0.4), u(0.15, 0.45)
    thin, body = u(0.08, 0.12), 2 * leg + fat * 0.8
    head = (long + 0.16, 0, body + reach)
    return [
        _part("sphere", (0, 0, body), (long + 0.1, fat, fat)),
        _part("sphere", (long, 0, body + reach / 2), (0.2, 0.15, 0.16 + reach / 2)),
        _part("sphere", head, (0.25, 0.18, 0.18)),
        _part("cube", (head[0] + 0.22, 0, head[2] - 0.05), (u(0.1, 0.18), 0.1, 0.08)),
        *_pair("sphere", (head[0] - 0.1, 0.13, head[2] + 0.2), (0.06, 0.06, u(0.1, 0.22))),
        _part("cube", (-long - 0.15, 0, body + 0.1), (u(0.08, 0.2), 0.05, 0.06)),
        *_pair("cylinder", (long * 0.75, fat * 0.6, leg), (thin, thin, leg)),
        *_pair("cylinder", (-long * 0.75, fat * 0.6, leg), (thin, thin, leg)),
    ]


def human(u: Draw) -> list[Part]:
    """Feet, legs, torso, head with a peaked cap, one arm hanging and the other stretched to the front."""
    leg, torso, wide, thin = u(0.38, 0.46), u(0.3, 0.38), u(0.24, 0.34), u(0.1, 0.13)
    chest, top = 2 * leg + torso, 2 * leg + 2 * torso
    shoulder, arm = wide + 0.08, u(0.25, 0.4)
    return [
        *_pair("cube", (0.1, 0.15, 0.06), (0.24, 0.11, 0.06)),
        *_pair("cylinder", (0, 0.15, leg), (thin, thin, leg)),
        _part("cube", (0, 0, chest), (0.17, wide, torso)),
        _part("sphere", (0, 0, top + 0.22), (0.22, 0.2, 0.25)),
        _part("cube", (0.24, 0, top + 0.3), (0.17, 0.17, 0.04)),
        _part("cube", (-0.24, 0, chest + 0.08), (0.1, wide * 0.7, u(0.15, 0.25))),  # a rucksack
        _part("cylinder", (0, shoulder, chest - 0.02), (0.08, 0.08, torso)),
        _part("cylinder", (arm, -shoulder, top - 0.15), (arm + 0.08, 0.09, 0.09), axis=0),
    ]


def airplane(u: Draw) -> list[Part]:
    """Fuselage, wings with engines, tailplane and fin, on a low stand."""
    high, span, chord, place = u(0.4, 0.5), u(0.8, 1.05), u(0.15, 0.24), u(0.0, 0.25)
    return [
        _part("cylinder", (0, 0, high / 2), (0.1, 0.1, high / 2)),
        _part("sphere", (0, 0, high), (1.05, u(0.15, 0.21), u(0.16, 0.22))),
        _part("sphere", (0.5, 0, high + 0.14), (0.25, 0.11, 0.12)),
        _part("cube", (place, 0, high - 0.02), (chord, span, 0.035)),
        *_pair("cylinder", (place + 0.15, span * u(0.35, 0.5), high - 0.08), (0.2, 0.09, 0.09), axis=0),
        _part("cube", (-0.88, 0, high + 0.08), (0.14, u(0.32, 0.45), 0.035)),
        _part("cube", (-0.9, 0, high + 0.25), (0.15, 0.035, u(0.2, 0.3))),
    ]


def truck(u: Draw) -> list[Part]:
    """Low cab in front, high load behind, six wheels."""
    wheel, wide, load, cab = u(0.14, 0.19), u(0.32, 0.4), u(0.28, 0.45), u(0.2, 0.26)
    floor, gap = 1.6 * wheel, u(0.04, 0.12)
    back = 0.95 - 2 * cab - gap  # x of the load's front
    wheels = [_pair("cylinder", (x, wide, wheel), (wheel, 0.07, wheel), axis=1) for x in (0.65, -0.35, -0.72)]
    return [
        _part("cube", (0, 0, floor), (1.0, wide * 0.8, 0.06)),
        _part("cube", (0.95 - cab, 0, floor + 0.26), (cab, wide * 0.92, 0.26)),
        _part("cube", ((back - 1) / 2, 0, floor + 0.05 + load), ((back + 1) / 2, wide, load)),
        *(part for pair in wheels for part in pair),
    ]


def car(u: Draw) -> list[Part]:
    """Flat bonnet in front, cabin towards the back, four wheels."""
    wheel, wide, deck, roof = u(0.17, 0.22), u(0.36, 0.44), u(0.13, 0.18), u(0.15, 0.24)
    floor, shape = wheel + deck, "cube" if u(0, 1) < 0.6 else "sphere"
    length, place = u(0.4, 0.52), u(-0.42, -0.25)
    roof *= 1 if shape == "cube" else 1.3
    return [
        _part("cube", (0, 0, floor), (0.95, wide, deck)),
        _part(shape, (place, 0, floor + deck + roof * 0.9), (length, wide * 0.86, roof)),
        *_pair("sphere", (0.93, wide * 0.65, floor + 0.04), (0.07, 0.09, 0.08)),
        *_pair("cylinder", (0.56, wide, wheel), (wheel, 0.07, wheel), axis=1),
        *_pair("cylinder", (-0.56, wide, wheel), (wheel, 0.07, wheel), axis=1),
    ]


TOYS = {"animal": animal, "human": human, "airplane": airplane, "truck": truck, "car": car}
MIDDLE = {"animal": 0.7, "human": 0.85, "airplane": 0.45, "truck": 0.5, "car": 0.4}  # height the camera looks at


def toy(category: str, instance: int, azimuth: float, paint: float) -> tuple[Solid, ...]:
    """Solids of one toy, turned by `azimuth` degrees; `paint` is its grey value. Same arguments, same toy.

    >>> [solid.shape for solid in toy("airplane", instance=0, azimuth=40, paint=0.7)]
    ['cylinder', 'sphere', 'sphere', 'cube', 'cylinder', 'cylinder', 'cube', 'cube']
    """
    rng = np.random.default_rng((zlib.crc32(category.encode()), instance))
    turn = turn_z(np.radians(azimuth))
    solids: list[Solid] = []
    for shape, centre, half, axis in TOYS[category](rng.uniform):
        order = [k for k in range(3) if k != axis] + [axis]  # a cylinder's own axis is its local z
        solids.append(Solid(shape, turn @ centre, half[order], np.full(3, paint), turn[:, order]))
    return tuple(solids)


def camera(category: str, elevation: float) -> Camera:
    """Looks at the middle of the toy from `elevation` degrees above the horizon."""
    angle, middle = np.radians(elevation), np.array([0, 0, MIDDLE[category]])
    return Camera(middle + 5.6 * np.array([0, -np.cos(angle), np.sin(angle)]), middle, np.radians(30))


def scene(rng: Generator, azimuth: int, elevation: int, instance: int) -> tuple[Scene, Camera, dict[str, Any]]:
    """A toy of a random category under one of six lamps, seen from `elevation` degrees -> (Scene, Camera, factors)."""
    category, lamp = str(rng.choice(list(TOYS))), int(rng.integers(len(LAMPS)))
    solids = toy(category, instance, azimuth, paint=rng.uniform(0.65, 0.85))
    world = Scene(
        solids, np.array(LAMPS[lamp], dtype=float), np.full(3, rng.uniform(0.45, 0.75)), rng.uniform(0.3, 0.5)
    )
    factors = {"category": category, "instance": instance, "lamp": lamp, "azimuth": azimuth, "elevation": elevation}
    return world, camera(category, elevation), factors


def _instance(index: int, rng: Generator) -> int:
    """A toy's number within its category; test images have their own."""
    return int(rng.integers(INSTANCES)) + (INSTANCES if index >= FIRST_TEST else 0)


def scene_azi(index: int, rng: Generator) -> tuple[Scene, Camera, dict[str, Any]]:
    """The scene of an image of smallnorb_azi."""
    elevation = 30 + 5 * int(rng.integers(9))
    return scene(rng, 20 * (index % len(AZIMUTHS)), elevation, _instance(index, rng))


def scene_ele(index: int, rng: Generator) -> tuple[Scene, Camera, dict[str, Any]]:
    """The scene of an image of smallnorb_ele."""
    azimuth = 20 * int(rng.integers(18))
    return scene(rng, azimuth, 30 + 5 * (index % len(ELEVATIONS)), _instance(index, rng))


def draw_azi(index: int, rng: Generator) -> tuple[UInt8[np.ndarray, "64 64"], int, dict[str, Any]]:
    """smallnorb_azi: label = azimuth / 20 degrees."""
    world, view, factors = scene_azi(index, rng)
    return render(world, view, SIZE)[..., 0], index % len(AZIMUTHS), factors


def draw_ele(index: int, rng: Generator) -> tuple[UInt8[np.ndarray, "64 64"], int, dict[str, Any]]:
    """smallnorb_ele: label = (elevation - 30 degrees) / 5 degrees."""
    world, view, factors = scene_ele(index, rng)
    return render(world, view, SIZE)[..., 0], index % len(ELEVATIONS), factors


def masks_azi(index: int, rng: Generator) -> Bool[np.ndarray, "1 64 64"]:
    """Where the toy is in an image of smallnorb_azi."""
    return masks(*scene_azi(index, rng)[:2], SIZE)


def masks_ele(index: int, rng: Generator) -> Bool[np.ndarray, "1 64 64"]:
    """Where the toy is in an image of smallnorb_ele."""
    return masks(*scene_ele(index, rng)[:2], SIZE)
