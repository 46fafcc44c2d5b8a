"""The solids of the ray caster: where rays from one point meet spheres, boxes and cylinders.

Every solid is a unit shape (ball of radius 1, cube or cylinder of half size 1) moved by a centre, a turn and half
sizes, so that one intersection routine per shape serves ellipsoids, slabs and rods alike. World axes: x and y along
the ground, z up; units are arbitrary. Colours are RGB in [0, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

MISS = np.float32(np.inf)


@dataclass(frozen=True, eq=False)
class Solid:
    """shape: 'sphere', 'cube' or 'cylinder' (its axis is local z). turn: its columns are the local axes."""

    shape: str
    centre: Float[np.ndarray, "3"]
    half: Float[np.ndarray, "3"]  # half sizes along the local axes
    colour: Float[np.ndarray, "3"]
    turn: Float[np.ndarray, "3 3"]
    metal: bool = False
    id: int = 1  # of the object in `masks`; the parts of one toy share it


def unit(vectors: Float[np.ndarray, "*points 3"]) -> Float[np.ndarray, "*points 3"]:
    """Vectors scaled to length 1.

    >>> unit(np.array([0.0, 3.0, 4.0])).tolist()
    [0.0, 0.6, 0.8]
    """
    return vectors / np.sqrt(dot(vectors, vectors))[..., None]


def dot(a: Float[np.ndarray, "*points axes"], b: Float[np.ndarray, "*points axes"]) -> Float[np.ndarray, "*points"]:
    """Scalar products along the last axis; several times faster than (a * b).sum(-1) on axes of three."""
    return np.asarray(np.einsum("...i,...i->...", a, b))


def turn_z(angle: float) -> Float[np.ndarray, "3 3"]:
    """Rotation by `angle` radians about the vertical, counter-clockwise from above.

    >>> (turn_z(np.pi / 2) @ [1.0, 0.0, 0.0]).round(6).tolist()
    [0.0, 1.0, 0.0]
    """
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _round_span(
    origin: Float[np.ndarray, " axes"], rays: Float[np.ndarray, "rays axes"]
) -> tuple[Float[np.ndarray, " rays"], Float[np.ndarray, " rays"]]:
    """Where rays are inside the unit ball of as many axes as given -> (enter, leave); a miss enters at inf."""
    a, b = dot(rays, rays), rays @ origin
    root = b * b - a * (origin @ origin - 1)
    hit, root = root > 0, np.sqrt(np.maximum(root, 0))
    a = np.maximum(a, 1e-12)
    return np.where(hit, (-b - root) / a, MISS), np.where(hit, (-b + root) / a, -MISS)


def _slab_span(
    origin: Float[np.ndarray, " axes"], rays: Float[np.ndarray, "rays axes"]
) -> tuple[Float[np.ndarray, " rays"], Float[np.ndarray, " rays"]]:
    """Where rays are inside [-1, 1] of every axis given -> (enter, leave)."""
    rays = np.where(np.abs(rays) < 1e-9, np.float32(1e-9), rays)
    one, two = ((-1 - origin) / rays).T, ((1 - origin) / rays).T
    return np.maximum.reduce(np.minimum(one, two)), np.minimum.reduce(np.maximum(one, two))


def _enter(
    solid: Solid, origin: Float[np.ndarray, "3"], rays: Float[np.ndarray, "rays 3"]
) -> Float[np.ndarray, " rays"]:
    """t at which rays from one origin enter the solid, inf where they miss. The origin lies outside it."""
    to_local = (solid.turn / solid.half).astype(np.float32)
    origin, rays = (origin - solid.centre).astype(np.float32) @ to_local, rays @ to_local
    if solid.shape == "sphere":
        enter, leave = _round_span(origin, rays)
    elif solid.shape == "cube":
        enter, leave = _slab_span(origin, rays)
    else:
        enter, leave = _round_span(origin[:2], rays[:, :2])
        caps = _slab_span(origin[2:], rays[:, 2:])
        enter, leave = np.maximum(enter, caps[0]), np.minimum(leave, caps[1])
    return np.where((enter < leave) & (enter > 0), enter, MISS)


def first_hits(
    solids: Sequence[Solid], origin: Float[np.ndarray, "3"], rays: Float[np.ndarray, "rays 3"]
) -> tuple[Float[np.ndarray, " rays"], Int[np.ndarray, " rays"]]:
    """The nearest solid on each ray from one origin -> (t, index into solids); (inf, -1) where none is.

    >>> ball = Solid("sphere", np.zeros(3), np.ones(3), np.ones(3), np.eye(3))
    >>> rays = np.array([[0, 0, -1], [0, 1, 0]], dtype=np.float32)
    >>> first_hits([ball], np.array([0.0, 0.0, 5.0]), rays)
    (array([ 4., inf], dtype=float32), array([ 0, -1]))
    """
    depth, which = np.full(len(rays), MISS), np.full(len(rays), -1)
    squared = dot(rays, rays)
    for k, solid in enumerate(solids):
        # Only rays that pass through the bounding ball are intersected: most solids cover few pixels.
        offset = (solid.centre - origin).astype(np.float32)
        along = rays @ offset
        reach = solid.half @ solid.half if solid.shape != "sphere" else solid.half.max() ** 2
        near = np.flatnonzero((along > 0) & ((offset @ offset - reach) * squared < along * along))
        t = _enter(solid, origin, rays[near])
        closer = t < depth[near]
        depth[near[closer]], which[near[closer]] = t[closer], k
    return depth, which


def surface_normals(solid: Solid, points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points 3"]:
    """Outward unit normals at points on the surface."""
    local = (points - solid.centre) @ solid.turn / solid.half
    if solid.shape == "cube":
        face = np.abs(local).argmax(1)[:, None] == np.arange(3)
        local = np.where(face, np.sign(local), 0)
    elif solid.shape == "cylinder":
        cap = (np.abs(local[:, 2]) > np.hypot(local[:, 0], local[:, 1]))[:, None]
        local = np.where(cap, [0, 0, 1], [1, 1, 0]) * local
    return unit(local / solid.half @ solid.turn.T)
