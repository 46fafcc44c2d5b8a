"""A small ray caster in plain numpy: solids on a ground plane, hard shadows, and a mask of object numbers.

World axes: x and y along the ground, z up; units are arbitrary. Colours are RGB in [0, 1].
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from .solids import Solid, dot, first_hits, surface_normals, unit

SAMPLES = 2  # rays along each side of a pixel


@dataclass(frozen=True, eq=False)
class Scene:
    """Solids above the plane z = 0, one lamp that casts shadows, and the sky's even light."""

    solids: tuple[Solid, ...]
    lamp: Float[np.ndarray, "3"]  # position
    ground: Float[np.ndarray, "3"]  # colour
    sky: float = 0.45  # share of the light that comes from all sides


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole at `eye` that looks at `target`; `view` is the full vertical angle in radians.

    >>> camera = Camera(np.array([0.0, -5.0, 0.0]), np.zeros(3), np.radians(40))
    >>> camera.axes.tolist()  # right, up, forward
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    >>> camera.rays(64, 64).shape
    (4096, 3)
    """

    eye: Float[np.ndarray, "3"]
    target: Float[np.ndarray, "3"]
    view: float

    @cached_property
    def axes(self) -> Float[np.ndarray, "3 3"]:
        """Rows are right, up and forward."""
        forward = unit(self.target - self.eye)
        right = unit(np.cross(forward, (0.0, 0.0, 1.0)))
        return np.stack([right, np.cross(right, forward), forward])

    def rays(self, height: int, width: int) -> Float32[np.ndarray, "{height}*{width} 3"]:
        """One ray a pixel. Forward components are 1, so that a ray's t is depth along the camera axis."""
        rows, columns = np.mgrid[:height, :width] + 0.5
        scale = 2 * np.tan(self.view / 2) / height
        across, upward = (columns - width / 2) * scale, (height / 2 - rows) * scale
        local = np.stack([across.ravel(), upward.ravel(), np.ones(height * width)], axis=1)
        return (local @ self.axes).astype(np.float32)

    def project(self, points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points 3"]:
        """World points -> x and y in [-1, 1] inside a square frame (y up), and depth."""
        local = (points - self.eye) @ self.axes.T
        depth = local[:, 2:]
        return np.hstack([local[:, :2] / (depth * np.tan(self.view / 2)), depth])


def trace(
    scene: Scene, camera: Camera, size: int
) -> tuple[Float32[np.ndarray, "rays 3"], Float32[np.ndarray, " rays"], Int[np.ndarray, " rays"]]:
    """Primary rays of a picture -> (rays, depth, index into scene.solids or -1 for the ground).

    Rays above the horizon are taken for ground very far away.
    """
    rays = camera.rays(SAMPLES * size, SAMPLES * size)
    depth, which = first_hits(scene.solids, camera.eye, rays)
    down = np.minimum(rays[:, 2], -1e-6)
    return rays, np.where(which < 0, -camera.eye[2] / down, depth).astype(np.float32), which


def _lit(scene: Scene, points: Float[np.ndarray, "points 3"]) -> Bool[np.ndarray, " points"]:
    """Whether the lamp sees each point. Rays start at the lamp, so all of them share one origin."""
    return first_hits(scene.solids, scene.lamp, points - scene.lamp)[0] > 0.999


def _glance(
    solid: Solid,
    rays: Float[np.ndarray, "points 3"],
    normals: Float[np.ndarray, "points 3"],
    to_lamp: Float[np.ndarray, "points 3"],
    lit: Bool[np.ndarray, " points"],
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """What a solid mirrors -> (highlight of the lamp, sky or floor). Rubber has a faint, wide highlight."""
    view = unit(rays)
    mirror = view - 2 * dot(view, normals)[:, None] * normals
    gleam = lit * np.maximum(dot(mirror, to_lamp), 0) ** (50 if solid.metal else 12)
    return gleam * (0.9 if solid.metal else 0.15), np.where(mirror[:, 2] > 0, 0.25 + 0.9 * mirror[:, 2], 0.25)


def _shade(
    scene: Scene,
    rays: Float[np.ndarray, "points 3"],
    points: Float[np.ndarray, "points 3"],
    which: Int[np.ndarray, " points"],
) -> Float[np.ndarray, "points 3"]:
    """Colours: even light from the sky, lamp light with shadows, and what each solid mirrors."""
    normals = np.tile(np.array([0, 0, 1], dtype=np.float32), (len(points), 1))
    members = [(solid, np.flatnonzero(which == k)) for k, solid in enumerate(scene.solids)]
    for solid, at in members:
        normals[at] = surface_normals(solid, points[at])
    to_lamp = unit(scene.lamp - points)
    lit = _lit(scene, points + np.float32(0.02) * normals)
    lamp = 1.25 * (1 - scene.sky) * lit * np.maximum(dot(normals, to_lamp), 0)
    # Sky light fades towards the ground, which anchors the solids where shadows alone would let them float.
    sky = scene.sky * (0.55 + 0.45 * normals[:, 2]) * np.where(which < 0, 1, np.clip(0.6 + points[:, 2], 0.6, 1))
    colours = (lamp + sky)[:, None] * scene.ground
    for solid, at in members:
        gleam, around = _glance(solid, rays[at], normals[at], to_lamp[at], lit[at])
        light = (lamp + sky)[at]
        light = 0.5 * light + 0.6 * around if solid.metal else light
        colours[at] = solid.colour * light[:, None] + gleam[:, None]
    return colours


def render(scene: Scene, camera: Camera, size: int) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Draw the scene, in RGB. Each pixel averages SAMPLES x SAMPLES rays.

    >>> ball = Solid("sphere", np.array([0.0, 0.0, 1.0]), np.ones(3), np.array([1.0, 0.0, 0.0]), np.eye(3), id=7)
    >>> scene = Scene((ball,), lamp=np.array([0.0, 0.0, 9.0]), ground=np.ones(3))
    >>> camera = Camera(np.array([0.0, -9.0, 3.0]), np.zeros(3), view=0.5)
    >>> render(scene, camera, 32).shape, masks(scene, camera, 32).shape
    ((32, 32, 3), (1, 32, 32))
    """
    rays, depth, which = trace(scene, camera, size)
    points = camera.eye + rays * np.minimum(depth, 1e3)[:, None]
    light = np.clip(_shade(scene, rays, points, which), 0, 1)
    return np.round(255 * light.reshape(size, SAMPLES, size, SAMPLES, 3).mean((1, 3))).astype(np.uint8)


def masks(scene: Scene, camera: Camera, size: int) -> Bool[np.ndarray, "objects {size} {size}"]:
    """Where each object is seen, by one ray a pixel, by rising Solid.id; solids of equal ids are one object."""
    middle = SAMPLES // 2
    seen = trace(scene, camera, size)[2].reshape(size, SAMPLES, size, SAMPLES)[:, middle, :, middle]
    ids = np.array([*(solid.id for solid in scene.solids), 0])  # the ground is -1, the last
    return np.stack([ids[seen] == number for number in sorted({solid.id for solid in scene.solids})])
