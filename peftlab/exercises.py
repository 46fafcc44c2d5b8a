"""`check("tour.1", answer)`: tells a reader whether an answer is right, and which known mistake a wrong one is."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Exercise:
    """correct(answer) -> bool. mistakes: (recognises(answer) -> bool, hint), most telling first."""

    correct: Callable
    praise: str
    mistakes: tuple = ()


def _holds(test, answer):
    """A test that raises on an answer does not hold for it."""
    try:
        return bool(test(answer))
    except Exception:  # the answer may be any object or function that a reader wrote
        return False


def check(name, answer):
    """Print what is right or wrong with an answer. Returns True if it is right.

    Raises KeyError for an unknown exercise, naming the known ones.
    """
    if name not in EXERCISES:
        raise KeyError(f"no exercise {name!r}; known: {', '.join(EXERCISES)}")
    exercise = EXERCISES[name]
    if answer is ... or (isinstance(answer, dict) and ... in answer.values()):
        print(f"{name}: not answered yet. Replace the ... by your answer and run the cell again.")
        return False
    if _holds(exercise.correct, answer):
        print(f"{name}: right. {exercise.praise}")
        return True
    hint = next(
        (hint for test, hint in exercise.mistakes if _holds(test, answer)), "not yet; read the text above again"
    )
    print(f"{name}: not right. Hint: {hint}.")
    return False


def equals(*expected):
    """The answer is this number (to 1e-6 relative) or text."""

    def test(answer):
        if isinstance(expected[0], str):
            return answer in expected
        return any(math.isclose(answer, e, rel_tol=1e-6) for e in expected)

    return test


def agrees(reference, *cases):
    """The answer is a function that gives the same as `reference` for all cases, values and types of numbers alike."""

    def test(answer):
        return all(np.allclose(answer(*case), reference(*case), rtol=1e-6, atol=0) for case in cases)

    return test


_VITS = ((6, 192, 8), (12, 768, 4), (3, 10, 1))
_LAYERS = ((6, 192, 768), (12, 768, 3072), (2, 8, 24))
_rng = np.random.default_rng(0)
_LORA = ((_rng.normal(size=(4, 4)), _rng.normal(size=(2, 4)), _rng.normal(size=(4, 2)), 0.5),)
_LABELS = ((np.array([0, 0, 0, 1, 1]), np.array([1, 1, 1, 1, 0, 2])), (np.array([2, 2, 0]), np.array([0, 1, 2, 2])))
_ACCURACIES = ((0.5, 100), (0.9, 500), (0.25, 64))

EXERCISES = {
    "tour.1": Exercise(
        equals(192 * 10 + 10),
        "192 weights and one bias for each of the 10 classes.",
        (
            (equals(192 * 10), "each class also has a bias"),
            (equals(192 + 10), "every class has its own vector of 192 weights"),
            (lambda n: n > 2_000_000, "the backbone is frozen: count the head alone"),
        ),
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
                lambda f: f(*_LORA[0]).shape != (4, 4),
                "look at the shapes: B is [D, rank], A is [rank, D]; which order?",
            ),
        ),
    ),
    "tasks.1": Exercise(
        agrees(lambda train, test: np.mean(test == np.bincount(train).argmax()), *_LABELS),
        "Any model has to beat this number before it has learned anything from the images.",
        (
            (
                agrees(lambda train, test: np.mean(test == np.bincount(test).argmax()), *_LABELS),
                "the most frequent class has to come from the training labels; test labels are not known beforehand",
            ),
            (
                agrees(lambda train, test: np.mean(train == np.bincount(train).argmax()), *_LABELS),
                "measure it on the test labels",
            ),
            (
                agrees(lambda train, test: 1 / len(np.unique(train)), *_LABELS),
                "that is chance for balanced classes; here the classes may be unbalanced",
            ),
        ),
    ),
    "tasks.2": Exercise(
        lambda f: [f(x) for x in range(32)] == [x // 2 for x in range(32)],
        "Two neighbouring columns share a label.",
        (
            (
                lambda f: [f(x) for x in range(32)] == [x / 2 for x in range(32)],
                "a label is a whole number: round down",
            ),
            (
                lambda f: [f(x) for x in range(32)] == [x % 16 for x in range(32)],
                "neighbouring positions should share a label; the remainder sends position 0 and 16 to one class",
            ),
            (
                lambda f: [f(x) for x in range(32)] == [round(x / 2) for x in range(32)],
                "round down, not to the nearest: otherwise 17 labels appear",
            ),
        ),
    ),
    "tasks.3": Exercise(
        equals("val200"),
        "Select on val200, train once more on all 1,000 images, then open the test split once.",
        (
            (equals("test"), "choosing on the test split makes its accuracy too good to be true"),
            (
                equals("train800", "train800val200"),
                "the model has seen these images: more training always looks better",
            ),
        ),
    ),
    "knobs.1": Exercise(
        agrees(lambda depth, width, hidden: depth * (7 * width + hidden) + 2 * width, *_LAYERS),
        "About a thousandth of the weights.",
        (
            (
                agrees(lambda depth, width, hidden: depth * (7 * width + hidden), *_LAYERS),
                "two biases lie outside the blocks: the patch embedding's and the final LayerNorm's",
            ),
            (
                agrees(lambda depth, width, hidden: depth * (5 * width + hidden) + 2 * width, *_LAYERS),
                "each block also has two LayerNorms with a shift of their own",
            ),
            (
                agrees(lambda depth, width, hidden: depth * (5 * width + hidden), *_LAYERS),
                "the LayerNorms and the patch embedding have biases too",
            ),
            (
                agrees(lambda depth, width, hidden: depth * 8 * width + 2 * width, *_LAYERS),
                "the bias of fc1 is as long as the hidden layer, not as the width",
            ),
        ),
    ),
    "knobs.2": Exercise(
        lambda a: dict(a) == {"linear": 6, "lora_last": 5, "bitfit": 0},
        "What lies before the first trained tensor is computed once and kept.",
        (
            (lambda a: a["linear"] != 6, "for the linear probe nothing in the 6 blocks is trained"),
            (lambda a: a["lora_last"] == 6, "LoRA in the last block changes that block's output"),
            (lambda a: a["lora_last"] == 0, "with LoRA in the last block only, the blocks before it never change"),
            (lambda a: a["bitfit"] != 0, "BitFit trains the bias of the patch embedding, before the first block"),
        ),
    ),
    "knobs.3": Exercise(
        agrees(lambda accuracy, images: math.sqrt(accuracy * (1 - accuracy) / images), *_ACCURACIES),
        "Four times the test images halve the error.",
        (
            (
                agrees(lambda accuracy, images: accuracy * (1 - accuracy) / images, *_ACCURACIES),
                "that is the variance; the standard error is its root",
            ),
            (
                agrees(lambda accuracy, images: math.sqrt(accuracy * (1 - accuracy)) / images, *_ACCURACIES),
                "the number of images belongs under the root",
            ),
            (
                agrees(lambda accuracy, images: math.sqrt(accuracy * (1 - accuracy)), *_ACCURACIES),
                "that is the spread of a single image; the mean over more images is steadier",
            ),
        ),
    ),
}
