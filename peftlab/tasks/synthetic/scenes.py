"""Scenes of two solids with captions: what captioning is learned and checked on without real photographs."""

from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.random import Generator

from . import grammar
from .clevr import drawn, scene

CAPTIONS = 5  # an image, as COCO and Flickr8k have


def draw(rng: Generator) -> tuple[UInt8[np.ndarray, "64 64 3"], list[str], dict[str, Any]]:
    """-> (image, five captions, factors).

    >>> image, captions, factors = draw(np.random.default_rng(0))
    >>> captions[0]
    'there is a small gray rubber cylinder left of a small red metal cube'
    """
    image, factors = drawn(*scene(rng, 2))
    said = grammar.captions(factors["objects"])
    return image, [said[i] for i in rng.choice(len(said), CAPTIONS, replace=False)], factors
