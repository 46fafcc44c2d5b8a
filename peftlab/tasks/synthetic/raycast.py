"""A small ray caster in plain numpy: solids on a ground plane, hard shadows, and a mask of object numbers.

World axes: x and y along the ground, z up; units are arbitrary. Colours are RGB in [0, 1].
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .solids import Solid, dot, first_hits, surface_normals, turn_z, unit

__all__ = ["Camera", "Scene", "Solid", "first_hits", "render", "turn_z"]

GROUND = 0  # in the mask


@dataclass(frozen=True, eq=False)
class Scene:
    """Solids above the plane z = 0, one lamp that casts shadows, and the sky's even light."""

    solids: tuple
    lamp: np.ndarray  # [3] position
    ground: np.ndarray  # [3] colour
    sky: float = 0.45  # share of the light that comes from all sides


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole at `eye` that looks at `target`; `view` is the full vertical angle in radians."""

    eye: np.ndarray
    target: np.ndarray
    view: float

    @cached_property
    def axes(self):
        """[3, 3]: rows are right, up and forward."""
        forward = unit(self.target - self.eye)
        right = unit(np.cross(forward, (0.0, 0.0, 1.0)))
        return np.stack([right, np.cross(right, forward), forward])

    def rays(self, height, width):
        """float32 [height * width, 3]: forward components are 1, so that a ray's t is depth along the camera axis."""
        rows, columns = np.mgrid[:height, :width] + 0.5
        scale = 2 * np.tan(self.view / 2) / height
        across, upward = (columns - width / 2) * scale, (height / 2 - rows) * scale
        local = np.stack([across.ravel(), upward.ravel(), np.ones(height * width)], axis=1)
        return (local @ self.axes).astype(np.float32)

    def project(self, points):
        """World points [n, 3] -> [n, 3]: x and y in [-1, 1] inside a square frame (y up), and depth."""
        local = (np.asarray(points) - self.eye) @ self.axes.T
        depth = local[:, 2:]
        return np.hstack([local[:, :2] / (depth * np.tan(self.view / 2)), depth])


def trace(scene, camera, height, width):
    """Primary rays -> (rays [n, 3], depth [n], index into scene.solids or -1 for the ground [n]).

    Rays above the horizon are taken for ground very far away.
    """
    rays = camera.rays(height, width)
    depth, which = first_hits(scene.solids, camera.eye, rays)
    down = np.minimum(rays[:, 2], -1e-6)
    return rays, np.where(which < 0, -camera.eye[2] / down, depth).astype(np.float32), which


def _lit(scene, points):
    """bool [n]: the lamp sees the point. Rays start at the lamp, so all of them share one origin."""
    return first_hits(scene.solids, scene.lamp, points - scene.lamp)[0] > 0.999


def _glance(solid, rays, normals, to_lamp, lit):
    """What a solid mirrors -> (highlight of the lamp [n], sky or floor [n]). Rubber has a faint, wide highlight."""
    view = unit(rays)
    mirror = view - 2 * dot(view, normals)[:, None] * normals
    gleam = lit * np.maximum(dot(mirror, to_lamp), 0) ** (50 if solid.metal else 12)
    return gleam * (0.9 if solid.metal else 0.15), np.where(mirror[:, 2] > 0, 0.25 + 0.9 * mirror[:, 2], 0.25)


def _shade(scene, rays, points, which):
    """Colours [n, 3]: even light from the sky, lamp light with shadows, and what each solid mirrors."""
    normals = np.tile(np.float32([0, 0, 1]), (len(points), 1))
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


def render(scene, camera, height, width, samples=2):
    """Draw the scene -> (rgb uint8 [height, width, 3], ids int16 [height, width]: Solid.id, or 0 for the ground).

    Each pixel averages samples x samples rays; its id is that of one of them.
    """
    rays, depth, which = trace(scene, camera, height * samples, width * samples)
    points = camera.eye + rays * np.minimum(depth, 1e3)[:, None]
    light = _shade(scene, rays, points, which)
    light = np.clip(light, 0, 1).reshape(height, samples, width, samples, 3).mean((1, 3))
    ids = np.array([*(s.id for s in scene.solids), GROUND], dtype=np.int16)[which]
    middle = samples // 2
    return np.round(light * 255).astype(np.uint8), ids.reshape(height * samples, -1)[middle::samples, middle::samples]


def masks(scene, camera, height, width):
    """Where each object is seen, bool [objects, height, width], by rising Solid.id; equal ids are one object."""
    ids = render(scene, camera, height, width)[1]
    return np.stack([ids == number for number in sorted({solid.id for solid in scene.solids})])
