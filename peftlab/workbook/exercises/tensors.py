"""Exercises of notebook 02_trained_tensors."""

import math

from .base import Exercise, agrees, entries

_LAYERS = ((6, 192, 768), (12, 768, 3072), (2, 8, 24))
_ACCURACIES = ((0.5, 100), (0.9, 500), (0.25, 64))

EXERCISES = {
    "tensors.1": Exercise(
        agrees(lambda depth, width, hidden: depth * (7 * width + hidden) + 2 * width, *_LAYERS),
        "Half a percent of the weights of the embedded ViT; about a thousandth of those of a ViT-B.",
        (
            (
                agrees(lambda depth, width, hidden: depth * (7 * width + hidden), *_LAYERS),
                "two biases lie outside the blocks: the patch embedding's and the final LayerNorm's",
            ),
            (
                agrees(lambda depth, width, hidden: depth * (5 * width + hidden) + 2 * width, *_LAYERS),
                "each block lacks 2 * width: its two LayerNorms have a shift each, and the bias of qkv is 3 * width",
            ),
            (
                agrees(lambda depth, width, hidden: depth * (5 * width + hidden), *_LAYERS),
                "outside the blocks two biases are missing, in each block 2 * width: the LayerNorms' or of qkv",
            ),
            (
                agrees(lambda depth, width, hidden: depth * 8 * width + 2 * width, *_LAYERS),
                "the bias of fc1 is as long as the hidden layer, not as the width",
            ),
            (
                agrees(lambda depth, width, hidden: depth * (6 * width + hidden) + 2 * width, *_LAYERS),
                "one width is missing in each block: proj, fc2 and both LayerNorms have one each",
            ),
            (
                agrees(lambda depth, width, hidden: depth * 7 * width + 2 * width, *_LAYERS),
                "the bias of fc1 is missing",
            ),
            (
                agrees(lambda depth, width, hidden: depth * (7 * width + hidden) + width, *_LAYERS),
                "outside the blocks there are two biases, not one",
            ),
        ),
        help="Add up the lengths of the biases in one block; that of qkv is 3 * width. LayerNorms have one, too.",
    ),
    "tensors.2": Exercise(
        entries(linear=6, lora_last=5, bitfit=0),
        "What lies before the first trained tensor is computed once and kept.",
        (
            (lambda a: a["linear"] in range(6), "for the linear probe nothing in the 6 blocks is trained"),
            (lambda a: a["lora_last"] == 6, "LoRA in the last block changes that block's output"),
            (lambda a: a["lora_last"] == 0, "with LoRA in the last block only, the blocks before it never change"),
            (
                lambda a: a["bitfit"] in range(1, 7),
                "BitFit trains the bias of the patch embedding, before the first block",
            ),
        ),
        help="Find the first trained tensor, from the input on. Only the blocks before it stay the same.",
    ),
    "tensors.3": Exercise(
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
                "that is the spread of a single image; the mean over many images varies less",
            ),
        ),
        help="One image is right or wrong, with variance accuracy * (1 - accuracy). And the mean of many?",
    ),
}
