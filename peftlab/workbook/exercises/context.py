"""Exercises of notebook 07_context_peft."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from .base import Exercise, agrees

_SEQUENCES = ((64, 12), (16, 5), (3, 1))
_LAYERS = ((768, 768), (768, 6144), (3072, 768))
_COUNTS = ((8, 2, _LAYERS), (1, 3, _LAYERS[:1]), (4, 1, _LAYERS[1:]))
_RNG = np.random.default_rng(0)
_TOKENS = tuple(
    (_RNG.normal(size=5).round(2), _RNG.normal(size=(6, 5)), _RNG.normal(size=(4, 6)), c, 2) for c in (0, 1, 2)
)
_CAPTIONS = (([[-1.0, -2.0, -0.5], [-0.1]],), ([[-0.3, -0.4], [-2.0, -1.0, -3.0, -0.2]],))


def _own(
    x: Float[np.ndarray, " width"],
    A: Float[np.ndarray, "inner width"],
    B: Float[np.ndarray, "out inner"],
    c: int,
    rank: int,
) -> Float[np.ndarray, " out"]:
    inner = A @ x
    mask = np.arange(len(inner)) // rank == c
    return B @ (inner * mask)


def _tokens(captions: Sequence[Sequence[float]]) -> Float[np.ndarray, " tokens"]:
    return np.concatenate([np.asarray(each) for each in captions])


EXERCISES = {
    "context.1": Exercise(
        agrees(lambda image, words: [1] + [0] * image + [1] * words, *_SEQUENCES),
        "The begin token is text, too: whatever is not an image token is.",
        (
            (agrees(lambda image, words: [0] * image + [1] * words, *_SEQUENCES), "the begin token is missing"),
            (
                agrees(lambda image, words: [0] * (1 + image) + [1] * words, *_SEQUENCES),
                "the begin token is not part of the image: text is whatever is not an image token",
            ),
            (
                agrees(lambda image, words: [0] + [1] * image + [0] * words, *_SEQUENCES),
                "the other way round: image tokens have number 0, text has 1",
            ),
        ),
        help="Write the list for image = 3, words = 2 by hand first; `[0] * 3` is a list of three zeros.",
    ),
    "context.2": Exercise(
        agrees(lambda x, A, B, c, rank: _own(x, A, B, c, rank), *_TOKENS),
        "A thin product for all contexts, a mask, a thin product back: no whole change of a weight is ever formed.",
        (
            (
                agrees(lambda x, A, B, c, rank: B @ (A @ x), *_TOKENS),
                "that adds the changes of all contexts; keep the inner values of context c alone",
            ),
            (
                agrees(lambda x, A, B, c, rank: B @ ((A @ x) * (np.arange(len(A)) % (len(A) // rank) == c)), *_TOKENS),
                "the contexts lie one below another: rows c * rank to (c + 1) * rank are those of context c",
            ),
            (
                agrees(lambda x, A, B, c, rank: B[:, c : c + rank] @ (A[c : c + rank] @ x), *_TOKENS),
                "context c begins at row c * rank, not at row c",
            ),
            (
                agrees(lambda x, A, B, c, rank: B @ ((A @ x) * (np.arange(len(A)) == c)), *_TOKENS),
                "a context has `rank` inner values, not one",
            ),
        ),
        help="A @ x has C rank inner values; which `rank` of them belong to context c? Set the others to 0.",
    ),
    "context.3": Exercise(
        agrees(lambda rank, contexts, layers: contexts * rank * sum(i + o for i, o in layers), *_COUNTS),
        "Twice the contexts, twice the parameters: an agnostic adapter of the doubled rank is the fair opponent.",
        (
            (
                agrees(lambda rank, contexts, layers: rank * sum(i + o for i, o in layers), *_COUNTS),
                "every context has matrices of its own",
            ),
            (
                agrees(lambda rank, contexts, layers: contexts * sum(i * o for i, o in layers), *_COUNTS),
                "that is the whole weight for each context; A has rank rows, B has rank columns",
            ),
            (
                agrees(lambda rank, contexts, layers: contexts * rank * sum(i for i, o in layers), *_COUNTS),
                "that is A alone; B has rank values for each output",
            ),
        ),
        help="Count one layer with one context first: how many rows and columns have A and B?",
    ),
    "context.4": Exercise(
        agrees(lambda captions: np.exp(-_tokens(captions).mean()), *_CAPTIONS),
        "All tokens weigh alike, so long captions weigh more than short ones.",
        (
            (
                agrees(lambda captions: np.mean([np.exp(-np.mean(each)) for each in captions]), *_CAPTIONS),
                "that is the mean of the captions' perplexities; take the mean over all tokens first",
            ),
            (
                agrees(lambda captions: np.exp(-np.mean([np.mean(each) for each in captions])), *_CAPTIONS),
                "that weighs every caption alike; every token counts alike",
            ),
            (
                agrees(lambda captions: -_tokens(captions).mean(), *_CAPTIONS),
                "that is the loss in nats; take exp of it",
            ),
            (
                agrees(lambda captions: np.exp(_tokens(captions).mean()), *_CAPTIONS),
                "that is below 1: log-probabilities are negative, the loss is minus their mean",
            ),
        ),
        help="Perplexity is exp of the mean loss of a token, and the loss of a token is minus its log-probability.",
    ),
}
