"""Pictures of captioners: tokens by context, what is written and how much of it is true, what adapters weigh."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import torch
from jaxtyping import Float, Int64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ..backbones.types import Pixels
from ..captioning.captioner import IGNORED, Captioner
from ..common.errors import PeftlabError
from ..methods.core.contexts import ContextLoRA, ContextVector
from ..tasks.synthetic import grammar
from .style import PALETTE, axes_or_new, bare

IMAGE_COLOR, TEXT_COLOR = PALETTE[1], PALETTE[0]
TRUE, FALSE, FALSE_COLOR = "✓", "✗", PALETTE[3]
CONTEXT_NAMES = {"one": ("all tokens",), "domain": ("image", "text"), "parity": ("even", "odd")}
CONTEXT_COLORS = {"one": (PALETTE[7],), "domain": (IMAGE_COLOR, TEXT_COLOR), "parity": (PALETTE[4], PALETTE[8])}


def pieces(model: Captioner, caption: str) -> list[str]:
    """The tokens of a caption as short texts, the end as '<eos>'."""
    tokenizer = model.lm.tokenizer
    return [*(tokenizer.decode([t]) for t in tokenizer.encode(caption)), "<eos>"]


def sequence(model: Captioner, caption: str, ax: Axes | None = None) -> Axes:
    """What the language model reads, token by token, coloured by domain; arrows: what has to be predicted -> Axes."""
    words = ["<bos>", *(["image"] * 3), "…", "image", *pieces(model, caption)[:-1]]
    predicted = [""] * 5 + pieces(model, caption)
    widths = [max(3, len(word), len(other)) + 1 for word, other in zip(words, predicted, strict=True)]  # in letters
    ax = axes_or_new(ax, (11, 1.5))
    for i, (word, other, width) in enumerate(zip(words, predicted, widths, strict=True)):
        left, color = sum(widths[:i]), IMAGE_COLOR if 1 <= i <= 5 else TEXT_COLOR
        middle = left + width / 2
        ax.add_patch(plt.Rectangle((left + 0.15, 0), width - 0.3, 1, color=color, alpha=0.35))
        ax.text(middle, 0.5, word, ha="center", va="center")
        if other:
            ax.annotate(other, (middle, 1.0), (middle, 1.45), ha="center", arrowprops={"arrowstyle": "<-"})
    ax.set(xlim=(0, sum(widths)), ylim=(-0.1, 1.8))
    ax.set_title(f"{model.image_tokens} image tokens between begin and caption; above: what is predicted")
    ax.axis("off")
    return ax


def gallery(pixels: Pixels, texts: Mapping[str, Sequence[str]], columns: int = 3) -> Figure:
    """Images with lines of text under each -> Figure. texts: {label: a caption an image}; the label stands before.

    >>> figure = gallery(torch.zeros(1, 8, 8, 3, dtype=torch.uint8), {"true": ["a cube"], "": ["a sphere"]})
    >>> figure.axes[0].get_xlabel().splitlines()
    ['true: a cube', 'a sphere']
    """
    rows = -(-len(pixels) // columns)
    size = (3.4 * columns, (2.3 + 0.32 * len(texts)) * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for ax in axes.flat[len(pixels) :]:
        ax.axis("off")
    for i, (ax, image) in enumerate(zip(axes.flat, pixels, strict=False)):
        ax.imshow(image.numpy())
        bare(ax)
        lines = [f"{label}: {captions[i]}" if label else captions[i] for label, captions in texts.items()]
        ax.set_xlabel("\n".join(textwrap.fill(line, 42) for line in lines))
    return figure


def context_sizes(model: Captioner) -> Float[Tensor, "blocks contexts"]:
    """How far each context's adapter is from doing nothing, by block.

    lora: Frobenius norm of B_c A_c, over all layers of a block; bitfit: norm of b'_c; ia3: norm of l_c - 1. Raises
    PeftlabError where there is no adapter.
    """
    if model.contexts is None:
        raise PeftlabError(f"{model.method} has no adapters by context to measure")
    count, rows = model.contexts.count, []
    for block in model.lm.blocks:
        squares = torch.zeros(count)
        for m in block.modules():
            if isinstance(m, ContextLoRA):
                A = m.down().unflatten(0, (len(m.rows), count, m.rank))
                B = m.up().unflatten(1, (len(m.rows), count, m.rank))
                squares += torch.einsum("otcr,tcri->tcoi", B, A).square().sum((0, 2, 3)).detach().cpu()
            elif isinstance(m, ContextVector):
                squares += (m.v - float(m.multiply)).square().sum(1).detach().cpu()
        rows.append(squares.sqrt())
    return torch.stack(rows)


def context_norms(model: Captioner, ax: Axes | None = None) -> Axes:
    """`context_sizes` as lines over the blocks; the title compares the two contexts -> Axes."""
    ax, sizes = axes_or_new(ax, (7, 3.2)), context_sizes(model)
    assert model.adapter is not None  # or there would be no sizes
    names = CONTEXT_NAMES[model.adapter.contexts]
    blocks = range(1, len(sizes) + 1)
    for values, name, color in zip(sizes.T, names, CONTEXT_COLORS[model.adapter.contexts], strict=True):
        ax.plot(blocks, values.numpy(), marker="o", color=color)
        ax.annotate(name, (blocks[-1], values[-1]), (8, 0), textcoords="offset points", va="center", color=color)
    ax.set(xlabel="block", ylabel="size of the weight change", ylim=(0, None), xticks=blocks)
    if not sizes.any():
        ax.set_title("No adapter has changed a weight yet")
    elif len(names) == 2:
        ratio = sizes[:, 0] / sizes[:, 1]
        times = f"{ratio.min():.1f} to {ratio.max():.1f} times"
        ax.set_title(f"Adapters of {names[0]} tokens changed {times} as much as those of {names[1]}")
    return ax


@torch.inference_mode()
def word_probabilities(
    model: Captioner, patches: Float[Tensor, "patches channels"], caption: str
) -> tuple[Float[Tensor, " words"], Int64[Tensor, " words"]]:
    """(probability of each right word, number of the likeliest one), given image and the right words before."""
    tokens, labels = model.encode([caption])
    p = model(patches[None], tokens)[0].softmax(-1)
    n = int((labels != IGNORED).sum())
    right = p[range(n), tokens[0, :n]]
    return right.cpu(), p[:n].argmax(-1).cpu()


def teacher_forced(
    model: Captioner, patches: Float[Tensor, "patches channels"], caption: str, ax: Axes | None = None
) -> Axes:
    """Probability of every right word when the right words before it are given -> Axes.

    A tick: the word was the likeliest; a cross and, below, what was likelier.
    """
    ax = axes_or_new(ax, (11, 3))
    right, best = word_probabilities(model, patches, caption)
    words, (tokens, _) = pieces(model, caption), model.encode([caption])
    hit = (best == tokens[0, : len(best)].cpu()).tolist()
    likelier = [model.lm.tokenizer.decode([t]) or "<eos>" for t in best.tolist()]
    bars = ax.bar(range(len(words)), right.numpy(), color=[TEXT_COLOR if h else FALSE_COLOR for h in hit])
    ax.bar_label(bars, [f"{TRUE if h else FALSE}\n{100 * p:.0f}" for p, h in zip(right.tolist(), hit, strict=True)])
    ax.set_xticks(range(len(words)), [f"{w}\n{'' if h else b}" for w, b, h in zip(words, likelier, hit, strict=True)])
    ax.set(ylim=(0, 1.35), yticks=[0, 0.5, 1], ylabel="probability")
    ax.set_title(
        f"{sum(hit)} of {len(words)} words are the likeliest ({TRUE}, with their probability in %); "
        f"below those that are not ({FALSE}), what was likelier"
    )
    return ax


def true_words(caption: str, objects: Sequence[Mapping[str, Any]]) -> list[tuple[str, bool]]:
    """What a caption says, word by word, and whether it is true; [] for a text outside the grammar.

    objects: factors of the scene's two solids; the order that makes more of the caption true counts, as in
    `grammar.score`.

    >>> cube = {"size": "small", "colour": "red", "material": "metal", "shape": "cube", "centre": (0, 0)}
    >>> ball = {"size": "large", "colour": "blue", "material": "rubber", "shape": "sphere", "centre": (3, 0)}
    >>> true_words("a small red metal cube right of a large blue rubber sphere", [cube, ball])[3:5]
    [('cube', True), ('right of', False)]
    """
    said = grammar.read(caption)
    if said is None:
        return []
    words = [*said[0], said[1], *said[2]]
    readings = []
    for one, other in (objects, objects[::-1]):
        facts = [*grammar.solid(one).split()[1:], grammar.relation(one, other), *grammar.solid(other).split()[1:]]
        readings.append([word == fact for word, fact in zip(words, facts, strict=True)])
    return list(zip(words, max(readings, key=sum), strict=True))


def written(
    pixels: Pixels, captions: Sequence[str], scenes: Sequence[Sequence[Mapping[str, Any]]], columns: int = 3
) -> Figure:
    """Scenes and what was written of them, each statement with a tick or a cross -> Figure.

    scenes: the factors of each scene, as `task.factors` gives them. A caption outside the grammar is shown as it is;
    none of its nine statements counts as true.
    """
    rows = -(-len(pixels) // columns)
    figure, axes = plt.subplots(
        rows, 2 * columns, figsize=(3.6 * columns, 2.3 * rows), width_ratios=[1.4, 1] * columns, squeeze=False
    )
    figure.set_layout_engine("constrained")
    for ax in axes.flat:
        bare(ax)
    said = [true_words(*pair) for pair in zip(captions, scenes, strict=True)]
    for i, (image, words) in enumerate(zip(pixels, said, strict=False)):
        picture, text = axes.flat[2 * i], axes.flat[2 * i + 1]
        picture.imshow(image.numpy())
        if not words:
            text.text(0, 0.5, textwrap.fill(captions[i], 22), color=FALSE_COLOR, va="center")
        for line, (word, true) in enumerate(words):
            color = TEXT_COLOR if true else FALSE_COLOR
            text.text(0, 1 - (line + 0.5) / 9, f"{TRUE if true else FALSE} {word}", color=color, va="center")
    marks = [true for words in said for _, true in words]
    figure.suptitle(
        f"{sum(marks)} of {9 * len(said)} statements are true ({TRUE}); "
        f"{sum(sum(true for _, true in words) == 9 for words in said)} of {len(said)} captions are true throughout"
    )
    return figure
