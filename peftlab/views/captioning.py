"""Pictures of captioning: tokens by context, words over images, what adapters of each context weigh."""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ..backbones.types import Pixels
from ..captioning.captioner import IGNORED, Captioner
from ..common.errors import PeftlabError
from ..methods.core.contexts import ContextLoRA, ContextVector
from .style import PALETTE, SEQUENTIAL, Image, axes_or_new, bare

IMAGE_COLOR, TEXT_COLOR = PALETTE[1], PALETTE[0]
CONTEXT_NAMES = {"one": ("all tokens",), "domain": ("image", "text"), "parity": ("even", "odd")}
CONTEXT_COLORS = {"one": (PALETTE[7],), "domain": (IMAGE_COLOR, TEXT_COLOR), "parity": (PALETTE[4], PALETTE[8])}


def pieces(model: Captioner, caption: str) -> list[str]:
    """The tokens of a caption as short texts, the end as '<eos>'."""
    tokenizer = model.lm.tokenizer
    return [*(tokenizer.decode([t]) for t in tokenizer.encode(caption)), "<eos>"]


def sequence(model: Captioner, caption: str, ax: Axes | None = None) -> Axes:
    """What the language model reads, token by token, coloured by domain; arrows: what has to be predicted -> Axes."""
    words = ["<bos>", *(["image"] * 3), "…", "image", *pieces(model, caption)[:-1]]
    ax = axes_or_new(ax, (11, 1.6))
    for x, word in enumerate(words):
        image = 1 <= x <= 5
        ax.add_patch(plt.Rectangle((x + 0.04, 0), 0.92, 1, color=IMAGE_COLOR if image else TEXT_COLOR, alpha=0.35))
        ax.text(x + 0.5, 0.5, word, ha="center", va="center", rotation=45 if len(word) > 5 else 0)
    for x, word in enumerate(pieces(model, caption), start=5):
        ax.annotate(word, (x + 0.5, 1.0), (x + 0.5, 1.45), ha="center", arrowprops={"arrowstyle": "<-"})
    ax.set(xlim=(0, len(words)), ylim=(-0.1, 1.8))
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
        ax.set_xlabel("\n".join(textwrap.fill(line, 52) for line in lines))
    return figure


@torch.inference_mode()
def span_attention(
    model: Captioner, patches: Float[Tensor, "patches channels"], caption: str, words: tuple[int, int], layer: int
) -> Float[Tensor, "grid grid"]:
    """Attention of a span of caption words over the image tokens, summed over words and heads.

    patches: of one image. words: (first, last + 1) among `pieces`; the row of a word is where it is *read*, one
    token position behind the one that predicted it. Recipe: Hadji-Kyriacou & Arandjelovic 2023, section 4.5.
    """
    first, stop = words
    tokens, _ = model.encode([caption])
    if not 0 <= first < stop < tokens.shape[1]:
        raise PeftlabError(f"words {first} to {stop} are not in a caption of {tokens.shape[1] - 1} tokens")
    weights = model.attention(patches[None], tokens)[layer][0]  # [H, N, N]
    at = 1 + model.image_tokens
    return weights[:, at + first : at + stop, 1:at].sum((0, 1)).unflatten(0, (model.grid, model.grid)).cpu()


def attention(
    model: Captioner,
    image: Image,
    patches: Float[Tensor, "patches channels"],
    caption: str,
    words: tuple[int, int],
    layer: int,
    ax: Axes | None = None,
) -> Axes:
    """`span_attention` laid over its image -> Axes."""
    ax = axes_or_new(ax, (2.6, 2.8))
    heat = span_attention(model, patches, caption, words, layer)
    h, w = image.shape[:2]
    ax.imshow(image.numpy(), extent=(0, w, h, 0))
    ax.imshow(heat.numpy(), cmap=SEQUENTIAL, alpha=0.55, extent=(0, w, h, 0), interpolation="bilinear")
    bare(ax, " ".join(pieces(model, caption)[slice(*words)]))
    return ax


def attention_with_image(
    model: Captioner,
    image: Image,
    patches: Float[Tensor, "patches channels"],
    caption: str,
    words: tuple[int, int],
    layer: int,
) -> Figure:
    """An image and, at its right, `attention` of a span of words -> Figure."""
    figure, axes = plt.subplots(1, 2, figsize=(5, 2.8), layout="constrained")
    axes[0].imshow(image.numpy())
    bare(axes[0], textwrap.fill(caption, 44))
    attention(model, image, patches, caption, words, layer, ax=axes[1])
    return figure


def attention_by_block(
    model: Captioner,
    image: Image,
    patches: Float[Tensor, "patches channels"],
    caption: str,
    spans: Sequence[tuple[int, int]],
) -> Figure:
    """`attention` of several spans of words, a row each, in every block, a column each -> Figure."""
    blocks, names = len(model.lm.blocks), pieces(model, caption)
    figure, axes = plt.subplots(
        len(spans), blocks, figsize=(2.1 * blocks, 2.2 * len(spans)), layout="constrained", squeeze=False
    )
    for row, span in zip(axes, spans, strict=True):
        for layer, ax in enumerate(row):
            attention(model, image, patches, caption, span, layer, ax=ax).set_title(f"block {layer + 1}")
        row[0].set_ylabel("\n".join(names[slice(*span)]))
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
    """`context_sizes` as lines over the blocks -> Axes."""
    ax, sizes = axes_or_new(ax, (4.6, 3)), context_sizes(model)
    assert model.adapter is not None  # or there would be no sizes
    kind = model.adapter.contexts
    for values, name, color in zip(sizes.T, CONTEXT_NAMES[kind], CONTEXT_COLORS[kind], strict=True):
        ax.plot(range(1, len(values) + 1), values.numpy(), marker="o", color=color, label=name)
    ax.set(xlabel="block", ylabel="size of the change", title=model.title, ylim=(0, None))
    ax.set_xticks(range(1, len(model.lm.blocks) + 1))
    ax.legend()
    return ax


@torch.inference_mode()
def word_probabilities(
    model: Captioner, patches: Float[Tensor, "patches channels"], caption: str
) -> tuple[Float[Tensor, " words"], list[str]]:
    """(probability of each right word, most likely word instead of it), given image and the right words before."""
    tokens, labels = model.encode([caption])
    p = model(patches[None], tokens)[0].softmax(-1)
    n = int((labels != IGNORED).sum())
    right = p[range(n), tokens[0, :n]]
    best = [model.lm.tokenizer.decode([t]) or "<eos>" for t in p[:n].argmax(-1).tolist()]
    return right.cpu(), best


def teacher_forced(
    model: Captioner, patches: Float[Tensor, "patches channels"], caption: str, ax: Axes | None = None
) -> Axes:
    """Probability of every right word when the right words before it are given; below, what was likeliest -> Axes."""
    ax = axes_or_new(ax, (9, 2.4))
    right, best = word_probabilities(model, patches, caption)
    words = pieces(model, caption)
    hit = [b == w for b, w in zip(best, words, strict=True)]
    ax.bar(range(len(words)), right.numpy(), color=[TEXT_COLOR if h else "0.75" for h in hit])
    ax.set_xticks(range(len(words)), [f"{w}\n{'' if h else b}" for w, b, h in zip(words, best, hit, strict=True)])
    ax.set(ylim=(0, 1.05), ylabel="probability", title="right words; below them, in grey bars, what was likelier")
    return ax


def gains(table: pd.DataFrame, ax: Axes | None = None, floor: float | None = None) -> Axes:
    """Perplexity of each kind of adapter, a bar for each way to share it -> Axes.

    table: DataFrame with a row for each kind (its index), a column for each way. floor: perplexity that no model can
    be expected to beat.
    """
    ax = axes_or_new(ax, (6.5, 3.2))
    width = 0.8 / len(table.columns)
    for i, way in enumerate(table.columns):
        x = np.arange(len(table)) + (i - (len(table.columns) - 1) / 2) * width
        ax.bar(x, table[way], width * 0.92, label=way, color=PALETTE[(7, 0, 1, 2, 4)[i]])
        for at, value in zip(x, table[way], strict=True):
            ax.text(at, value, f"{value:.2f}", ha="center", va="bottom")
    if floor is not None:
        ax.axhline(floor, color="0.3", linestyle=":", linewidth=1)
    ax.set_xticks(range(len(table)), table.index)
    ax.set(ylabel="perplexity", ylim=(1, 1 + 1.25 * (np.nanmax(table.to_numpy()) - 1)))
    ax.legend(ncols=len(table.columns), loc="upper center")
    return ax


def by_data(measured: pd.DataFrame, ways: Mapping[str, str], ax: Axes | None = None) -> Axes:
    """Test perplexity against the number of training scenes, a line a way to train; dots are seeds -> Axes.

    measured: `read_results("captioning")`. ways: {name in the legend: beginning of the labels}, the first one in red.
    """
    ax, ends = axes_or_new(ax, (6.5, 3.8)), {}
    for i, (name, label) in enumerate(ways.items()):
        rows = measured[measured["label"].str.match(f"{label}, [0-9]+ scenes$")]
        means, color = rows.groupby("train_images")["test_perplexity"].mean(), PALETTE[(3, 7, 0, 2)[i]]
        ax.plot(rows["train_images"], rows["test_perplexity"], "o", color=color, alpha=0.5, markersize=4)
        ax.plot(means.index, means, marker="osD^"[i], color=color, label=name)
        ends[name] = means
    table = pd.DataFrame(ends)
    ax.set(xscale="log", yscale="log", xlabel="training scenes (log)", ylabel="test perplexity (log)")
    ax.set_xticks(table.index, [str(n) for n in table.index])
    ax.set_yticks([2, 3, 5, 8], ["2", "3", "5", "8"])
    ax.minorticks_off()
    ax.legend()
    best = table.idxmin(axis=1)
    ax.set_title("best: " + "; ".join(f"{best[n]} ({n} scenes)" for n in table.index), loc="left")
    return ax
