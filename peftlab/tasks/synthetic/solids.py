"""The solids of the ray caster: where rays from one point meet spheres, boxes and cylinders.

Every solid is a unit shape (ball of radius 1, cube or cylinder of half size 1) moved by a centre, a turn and half
sizes, so that one intersection routine per shape serves ellipsoids, slabs and rods alike. World axes: x and y along
the ground, z up; units are arbitrary. Colours are RGB in [0, 1].
"""

from dataclasses import dataclass

import numpy as np

MISS = np.float32(np.inf)


@dataclass(frozen=True, eq=False)
class Solid:
    """shape: 'sphere', 'cube' or 'cylinder' (its axis is local z). turn [3, 3]: columns are the local axes."""

    shape: str
    centre: np.ndarray  # [3]
    half: np.ndarray  # [3] half sizes along the local axes
    colour: np.ndarray  # [3]
    turn: np.ndarray
    metal: bool = False
    id: int = 1  # what `render` writes into the mask; the parts of one toy share it. 0 is the ground


def unit(vectors):
    """Vectors [..., 3] scaled to length 1."""
    return vectors / np.sqrt(dot(vectors, vectors))[..., None]


def dot(a, b):
    """Scalar products along the last axis; several times faster than (a * b).sum(-1) on axes of three."""
    return np.einsum("...i,...i->...", a, b)


def turn_z(angle):
    """[3, 3]: rotation by `angle` radians about the vertical, counter-clockwise from above."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _round_span(origin, rays):
    """Where rays are inside the unit ball of as many axes as given -> (enter, leave); a miss enters at inf."""
    a, b = dot(rays, rays), rays @ origin
    root = b * b - a * (origin @ origin - 1)
    hit, root = root > 0, np.sqrt(np.maximum(root, 0))
    a = np.maximum(a, 1e-12)
    return np.where(hit, (-b - root) / a, MISS), np.where(hit, (-b + root) / a, -MISS)


def _slab_span(origin, rays):
    """Where rays are inside [-1, 1] of every axis given -> (enter, leave)."""
    rays = np.where(np.abs(rays) < 1e-9, np.float32(1e-9), rays)
    one, two = ((-1 - origin) / rays).T, ((1 - origin) / rays).T
    return np.maximum.reduce(np.minimum(one, two)), np.minimum.reduce(np.maximum(one, two))


def _enter(solid, origin, rays):
    """t [n] at which rays from one origin [3] enter the solid, inf where they miss. The origin lies outside it."""
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


def first_hits(solids, origin, rays):
    """The nearest solid on each ray from one origin -> (t [n], index into solids [n]); (inf, -1) where none is."""
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


def surface_normals(solid, points):
    """Outward unit normals [n, 3] at points [n, 3] on the surface."""
    local = (points - solid.centre) @ solid.turn / solid.half
    if solid.shape == "cube":
        face = np.abs(local).argmax(1)[:, None] == np.arange(3)
        local = np.where(face, np.sign(local), 0)
    elif solid.shape == "cylinder":
        cap = (np.abs(local[:, 2]) > np.hypot(local[:, 0], local[:, 1]))[:, None]
        local = np.where(cap, [0, 0, 1], [1, 1, 0]) * local
    return unit(local / solid.half @ solid.turn.T)
