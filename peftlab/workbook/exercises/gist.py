"""Exercises of notebook 04_gist."""

import numpy as np
from jaxtyping import Float

from .base import Exercise, agrees, equals

_P, _Q = np.array([0.7, 0.2, 0.1]), np.array([0.2, 0.5, 0.3])
_PAIRS = ((_P, _Q), (_Q, np.array([0.3, 0.3, 0.4])))
_ROWS = ((np.arange(198.0)[::-1], 2, 196), (np.arange(66.0) ** 2, 2, 64), (np.arange(203.0), 7, 196))


def _kl(p: Float[np.ndarray, " classes"], q: Float[np.ndarray, " classes"]) -> float:
    return (p * np.log(p / q)).sum()


EXERCISES = {
    "gist.1": Exercise(
        equals(14 * 14 + 2),
        "CLS, gist and 196 patches; outside the blocks the gist is gone again.",
        (
            (equals(196), "besides the patches there are two more tokens"),
            (equals(197), "that is the plain ViT; the gist is one token more"),
            (equals(209, 210), "one gist at the input serves all layers; it is not one for each layer"),
        ),
        help="Count the patches in one row first: 224 pixels in steps of 16. Then add the tokens that are no patches.",
    ),
    "gist.2": Exercise(
        agrees(lambda p, q: _kl(p, q) + _kl(q, p), *_PAIRS),
        "Known as Jeffreys' divergence; it is symmetric, and 0 only where both agree.",
        (
            (agrees(_kl, *_PAIRS), "that is one direction; add the other"),
            (agrees(lambda p, q: _kl(q, p), *_PAIRS), "that is the direction from q to p; add the one from p to q"),
            (
                agrees(lambda p, q: (_kl(p, q) + _kl(q, p)) / 2, *_PAIRS),
                "the two directions are added, not averaged; each has a weight of its own in the loss",
            ),
            (
                agrees(lambda p, q: (_kl(p, q) + _kl(q, p)) / len(p), *_PAIRS),
                "sum over classes; a mean would divide by their number",
            ),
        ),
        help="Begin with one direction: a sum over classes, each weighed by p. Then exchange p and q, and add.",
    ),
    "gist.3": Exercise(
        agrees(lambda row, prefix, patches: row[prefix:] / row[prefix:].sum(), *_ROWS),
        "The number of prefix tokens is asked for: with registers or prompts it is larger.",
        (
            (
                agrees(lambda row, prefix, patches: row[prefix:], *_ROWS),
                "these are the patches, but their weights no longer sum to 1",
            ),
            (
                agrees(lambda row, prefix, patches: row[1:] / row[1:].sum(), *_ROWS),
                "skipping only CLS leaves the gist, which is no patch: skip all prefix tokens",
            ),
            (
                agrees(lambda row, prefix, patches: row[:patches] / row[:patches].sum(), *_ROWS),
                "prefix tokens come first, so the patches are the last ones",
            ),
            (
                agrees(lambda row, prefix, patches: row[prefix:] / row.sum(), *_ROWS),
                "divide by the sum of the patches alone",
            ),
        ),
        help="First cut off what is no patch: the prefix tokens come first. Then divide by the sum of what is left.",
    ),
}
