"""Exercises of notebook 05_gift."""

import numpy as np

from .base import Exercise, agrees

_rng = np.random.default_rng(0)
_SIZES = ((12, 768, 16), (24, 1024, 16), (6, 192, 24))
_WEIGHTS = tuple((_rng.normal(size=(4, 4)), _rng.normal(size=(4, 2)), _rng.normal(size=(2, 4))) for _ in range(2))
_FEATURES = tuple((_rng.normal(size=shape),) for shape in ((5, 3), (4, 4)))
_REGIONS = tuple((_rng.random((6, 6)) > 0.5, _rng.random((6, 6)) > p) for p in (0.3, 0.8))

_gives_means = agrees(lambda f: f.mean(axis=1, keepdims=True) + 0 * f, *_FEATURES)

EXERCISES = {
    "gift.1": Exercise(
        agrees(lambda depth, width, rank: 2 * width * rank, *_SIZES),
        "Depth does not occur: ViT-B/16 at rank 16 has 24,576, twice as many blocks have as many.",
        (
            (
                agrees(lambda depth, width, rank: 2 * depth * width * rank, *_SIZES),
                "that is a pair of matrices for every block, as LoRA has it; GIFT's pair is shared",
            ),
            (
                agrees(lambda depth, width, rank: width * rank, *_SIZES),
                "phi reduces and psi recovers; count both",
            ),
            (
                agrees(lambda depth, width, rank: 2 * width**2, *_SIZES),
                "the matrices are thin: one of their sides is the rank",
            ),
        ),
        help="Write down the shapes of phi and psi, then ask how many such pairs the model has.",
    ),
    "gift.2": Exercise(
        agrees(lambda W, phi, psi: W + W @ phi @ psi, *_WEIGHTS),
        "After that phi and psi are not needed any more, and inference costs what it cost before.",
        (
            (
                agrees(lambda W, phi, psi: W + phi @ psi @ W, *_WEIGHTS),
                "phi psi stands to the right of W: the rows of W are the tokens",
            ),
            (
                agrees(lambda W, phi, psi: W + phi @ psi, *_WEIGHTS),
                "that is LoRA; GIFT makes the change out of W itself",
            ),
            (
                agrees(lambda W, phi, psi: W @ phi @ psi, *_WEIGHTS),
                "that is the change alone; the frozen weight is still needed",
            ),
        ),
        help="Multiply out W (I + phi psi).",
    ),
    "gift.3": Exercise(
        agrees(lambda f: f - f.mean(axis=1, keepdims=True), *_FEATURES),
        "A LayerNorm begins so: without LayerScale the next one removes it anyway. With LayerScale the model uses it.",
        (
            (
                agrees(lambda f: f - f.mean(axis=0, keepdims=True), *_FEATURES),
                "that is the mean over patches; take each patch's own mean over its channels",
            ),
            (
                agrees(lambda f: f - f.mean(), *_FEATURES),
                "one number for all patches keeps what differs between them; each patch has a mean of its own",
            ),
            (
                lambda answer: _gives_means(lambda f: answer(f) + 0 * f),  # one mean a patch, repeated or not
                "that is what all channels share; take it away",
            ),
        ),
        help="Take the mean over the channels of each patch, and keep its axis so that it can be subtracted.",
    ),
    "gift.4": Exercise(
        agrees(lambda a, b: (a & b).sum() / (a | b).sum(), *_REGIONS),
        "1 for equal regions, 0 for separate ones; too large a region is punished as too small a one is.",
        (
            (
                agrees(lambda a, b: 2 * (a & b).sum() / (a.sum() + b.sum()), *_REGIONS),
                "that is Dice's coefficient; divide what both cover by what at least one covers",
            ),
            (
                agrees(lambda a, b: (a & b).sum() / b.sum(), *_REGIONS),
                "that is how much of b is found: a region that covers everything would score 1",
            ),
            (
                agrees(lambda a, b: (a & b).sum() / a.sum(), *_REGIONS),
                "that is how much of a is right: a single pixel inside b would score 1",
            ),
            (
                agrees(lambda a, b: (a == b).mean(), *_REGIONS),
                "that counts the background, too: an empty region would score well on a small object",
            ),
        ),
        help="`a & b` is True where both are, `a | b` where at least one is; `.sum()` counts.",
    ),
}
