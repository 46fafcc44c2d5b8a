"""Exercises of notebook 00_tour."""

import numpy as np

from .base import Exercise, agrees, equals

_VITS = ((6, 192, 8), (12, 768, 4), (3, 10, 1))
_rng = np.random.default_rng(0)
_LORA = ((_rng.normal(size=(4, 4)), _rng.normal(size=(2, 4)), _rng.normal(size=(4, 2)), 0.5),)

EXERCISES = {
    "tour.1": Exercise(
        equals(192 * 10 + 10),
        "192 weights and one bias for each of the 10 classes.",
        (
            (equals(192 * 10), "each class also has a bias"),
            (equals(192 + 10), "every class has its own vector of 192 weights"),
            (lambda n: n > 2_000_000, "the backbone is frozen: count the head alone"),
        ),
        help="A linear layer computes W x + b: how many numbers are in W, and how many in b?",
    ),
    "tour.2": Exercise(
        agrees(lambda depth, width, rank: depth * 2 * 2 * width * rank, *_VITS),
        "Two targets in each block, two thin matrices for each target.",
        (
            (
                agrees(lambda depth, width, rank: depth * 2 * width * rank, *_VITS),
                "a factor 2 is missing: each of the two targets, q and v, has two matrices, A and B",
            ),
            (
                agrees(lambda depth, width, rank: depth * 3 * 2 * width * rank, *_VITS),
                "only q and v are adapted here, not k",
            ),
            (
                agrees(lambda depth, width, rank: depth * 2 * width * width, *_VITS),
                "that is the size of the full change; LoRA stores the two thin factors",
            ),
            (
                agrees(lambda depth, width, rank: 4 * width * rank, *_VITS),
                "that is one block; there are `depth` of them",
            ),
        ),
        help="Count A [rank, width] and B [width, rank] for one target, then the targets and the blocks.",
    ),
    "tour.3": Exercise(
        agrees(lambda W, A, B, scale: W + scale * B @ A, *_LORA),
        "The merged layer costs nothing extra at inference.",
        (
            (agrees(lambda W, A, B, scale: W + B @ A, *_LORA), "the product is multiplied by the scale"),
            (
                agrees(lambda W, A, B, scale: scale * B @ A, *_LORA),
                "the pre-trained weight stays: add the change to W",
            ),
            (agrees(lambda W, A, B, scale: scale * (W + B @ A), *_LORA), "only the change is scaled, not W"),
            (
                agrees(lambda W, A, B, scale: scale * A @ B, *_LORA),
                "look at the shapes: B is [D, rank], A is [rank, D]; which order?",
            ),
        ),
        help="Both paths read the same x: W x + scale * B (A x). Take x out of the sum.",
    ),
}
