"""What can be said of a scene of two solids, and what a sentence says: captions and their reading.

    [lead] a <size> <colour> <material> <shape> <relation> a <size> <colour> <material> <shape>

Everything that a caption says follows from the picture, but for two choices: the lead (one of four) and which solid
comes first. So nobody can expect less than log 4 + log 2 nats a caption.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .clevr import COLOURS, RADII, SHAPES

LEADS = ("", "there is ", "we see ", "the picture shows ")
MATERIALS = ("metal", "rubber")
ATTRIBUTES = {"size": tuple(RADII), "colour": tuple(COLOURS), "material": MATERIALS, "shape": SHAPES}
OPPOSITE = {"left of": "right of", "in front of": "behind"}
OPPOSITE |= {b: a for a, b in OPPOSITE.items()}

_SOLID = r"an? " + " ".join(f"({'|'.join(words)})" for words in ATTRIBUTES.values())
_CAPTION = re.compile(f"(?:.*? )?{_SOLID} ({'|'.join(OPPOSITE)}) {_SOLID}$")


def relation(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """How one solid stands to another, along the ground axis on which they are farther apart; seen by the camera."""
    (x, y), (u, v) = one["centre"][:2], other["centre"][:2]
    if abs(x - u) >= abs(y - v):
        return "left of" if x < u else "right of"
    return "in front of" if y < v else "behind"


def solid(factors: Mapping[str, Any]) -> str:
    """One solid in words.

    >>> solid({"size": "small", "colour": "red", "material": "metal", "shape": "cube"})
    'a small red metal cube'
    """
    return "a " + " ".join(factors[name] for name in ATTRIBUTES)


def captions(objects: Sequence[Mapping[str, Any]]) -> list[str]:
    """All eight captions of a scene of two solids; objects: their factors."""
    return [
        f"{lead}{solid(one)} {relation(one, other)} {solid(other)}"
        for one, other in (objects, objects[::-1])
        for lead in LEADS
    ]


def read(caption: str) -> tuple[tuple[str, ...], str, tuple[str, ...]] | None:
    """What a caption says -> (attributes of the first solid, relation, those of the second); None for other texts.

    >>> read("we see a small red metal cube left of a large blue rubber sphere")
    (('small', 'red', 'metal', 'cube'), 'left of', ('large', 'blue', 'rubber', 'sphere'))
    """
    found = _CAPTION.match(caption)
    return None if found is None else (found.groups()[:4], found.group(5), found.groups()[5:])


def score(caption: str, objects: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Which statements of a caption are true -> {attribute: share in [0, 1]}, with 'relation' and 'everything'.

    A caption does not say which of the two solids it begins with: the order that makes more of it true counts. A text
    outside the grammar is wrong throughout.
    """
    said = read(caption)
    if said is None:
        return dict.fromkeys([*ATTRIBUTES, "relation", "everything"], 0.0)
    readings = []
    for one, other in itertools.permutations(objects):
        true = {name: [said[0][i] == one[name], said[2][i] == other[name]] for i, name in enumerate(ATTRIBUTES)}
        readings.append(true | {"relation": [said[1] == relation(one, other)]})
    best = max(readings, key=lambda true: sum(map(sum, true.values())))
    shares = {name: sum(each) / len(each) for name, each in best.items()}
    return shares | {"everything": float(all(map(all, best.values())))}
