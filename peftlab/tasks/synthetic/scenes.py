"""Scenes of two solids with captions: what captioning is learned and checked on without real photographs."""

from . import grammar
from .clevr import drawn, scene

CAPTIONS = 5  # an image, as COCO and Flickr8k have


def draw(rng):
    """-> (image uint8 [64, 64, 3], five captions, factors)."""
    image, factors = drawn(*scene(rng, 2))
    said = grammar.captions(factors["objects"])
    return image, [said[i] for i in rng.choice(len(said), CAPTIONS, replace=False)], factors
