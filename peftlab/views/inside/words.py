"""What each word of a caption looked at, and through which adapter each token of the sequence went."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ...captioning.captioner import Captioner, Patches
from ...captioning.word_attention import object_places, solid_masks
from ...common.errors import PeftlabError
from ...tasks.captions import CaptionTask
from ...tasks.synthetic import grammar
from ..captioning import CONTEXT_NAMES, pieces, word_probabilities
from ..style import HEAT, bare
from .explorer import Choice, Explorer, Table
from .packing import outline

ATTRIBUTES = len(grammar.ATTRIBUTES)  # words of a solid behind its article


def captioning(models: Mapping[str, Captioner], task: CaptionTask, rows: Sequence[int]) -> Explorer:
    """Attention over the image tokens, by scene, model, block, head and token -> Explorer.

    models: {name: captioner}, the one to compare with first. rows: test scenes, each read with its first true caption.
    Raises PeftlabError for photographs, whose solids are not known, for captions of different lengths, and for models
    with different numbers of image tokens.
    """
    if not task.synthetic:
        raise PeftlabError(f"{task.name}: nobody knows what its captions name; take the synthetic scenes")
    captions = [grammar.captions(task.factors("test")[row])[0] for row in rows]
    first, *others = models
    words = [pieces(models[first], caption)[:-1] for caption in captions]
    if len({len(each) for each in words}) > 1:
        raise PeftlabError(f"the captions have {', '.join(str(len(each)) for each in words)} words; take equal ones")
    grid, count = models[first].grid, len(words[0])
    for name, model in models.items():
        if model.grid != grid:
            raise PeftlabError(f"{name} reads {model.image_tokens} image tokens, but {first} {grid**2}")
    places = object_places("test", max(rows) + 1, grid)[list(rows)]
    patches = {name: model.encode_images(task, "test", max(rows) + 1)[list(rows)] for name, model in models.items()}
    attention = torch.stack([_attention(model, patches[name], captions) for name, model in models.items()], 1)
    over_image = attention[..., 1 : 1 + grid**2]
    own, other = looks(over_image.mean(3), places)
    chances = [[_chances(m, patches[name][i], c) for name, m in models.items()] for i, c in enumerate(captions)]
    cells = range(grid**2)
    return Explorer(
        title="What a word looks at",
        choices=[
            Choice("scene", [f"scene {row + 1}" for row in rows]),
            Choice(
                "word",
                [[*each, *cells] for each in words],
                "words",
                first=words[0][ATTRIBUTES],
                by="scene",
                cells_from=count,
            ),
            Choice(
                "model",
                list(models),
                derived={f"{name} less {first}": (i, 0) for i, name in enumerate(others, 1)},
                first=[*models][-1],
            ),
            Choice("block", range(1, over_image.shape[2] + 1), "slider", first=over_image.shape[2]),
            Choice(
                "head",
                range(1, over_image.shape[3] + 1),
                "list",
                {"mean of heads": "mean", "all heads": "each"},
                "mean of heads",
            ),
        ],
        pictures=[
            (Image.fromarray(task.pixels("test", (336, 336), [row])[0].numpy()), f"A drawn scene: {caption}.")
            for row, caption in zip(rows, captions, strict=True)
        ],
        pictured=["scene"],
        maps=over_image.unflatten(-1, (grid, grid)),
        mapped=["scene", "model", "block", "head", "word"],
        unit="of the token's attention",
        whole="goes to image tokens",
        outlines=[outline(each.any(0)) for each in solid_masks("test", rows)],
        facts=[
            Table("this token goes through", ["model", "word"], [adapters(m, count) for m in models.values()], "text"),
            Table("at the solid it names (spread evenly: 1)", ["scene", "model", "block", "word"], own),
            Table("at the other solid", ["scene", "model", "block", "word"], other),
            Table("probability of this word, given those before", ["scene", "model", "word"], chances, "percent"),
        ],
        chart=Table(
            "Share of attention that goes to image tokens, mean of heads",
            ["scene", "model", "word", "block"],
            over_image.sum(-1).mean(3).transpose(-1, -2),
            "percent",
        ),
        strip=_strip(models, over_image.mean(3).unflatten(-1, (grid, grid)), task, rows, words),
    )


@torch.inference_mode()
def _attention(
    model: Captioner, patches: Patches, captions: Sequence[str]
) -> Float[Tensor, "scenes blocks heads tokens positions"]:
    """Attention of the words, then of the image tokens, over all positions."""
    start, (tokens, _) = 1 + model.image_tokens, model.encode(captions)
    weights = torch.stack(model.attention(patches, tokens), 1).cpu()
    return torch.cat([weights[..., start:, :], weights[..., 1:start, :]], -2)


def _chances(model: Captioner, patches: Float[Tensor, "patches channels"], caption: str) -> list[float]:
    """Probability of each word, given those before; NaN for the image tokens, which nobody predicts."""
    return [*word_probabilities(model, patches, caption)[0][:-1].tolist(), *[np.nan] * model.image_tokens]


def looks(
    over_image: Float[Tensor, "scenes models blocks tokens cells"], places: Float[Tensor, "scenes solids cells"]
) -> tuple[Float[Tensor, "scenes models blocks tokens"], Float[Tensor, "scenes models blocks tokens"]]:
    """Attention at the solid that a word names, and at the other; 1 where it is spread evenly over the image.

    As `word_attention.at_objects` has it; NaN for words that name no solid. The caption begins with the first solid.
    """
    shares = over_image / over_image.mean(-1, keepdim=True)
    at = torch.einsum("smbtc,soc->osmbt", shares, places)
    words = over_image.shape[-2] - over_image.shape[-1]
    own, other = torch.full_like(at[0], torch.nan), torch.full_like(at[0], torch.nan)
    for solid, named in enumerate((slice(1, 1 + ATTRIBUTES), slice(words - ATTRIBUTES, words))):
        own[..., named], other[..., named] = at[solid][..., named], at[1 - solid][..., named]
    return own, other


def adapters(model: Captioner, words: int) -> list[str]:
    """Of each word, then of each image token, the adapter it goes through."""
    cells = model.image_tokens
    if model.adapter is None or model.contexts is None:
        return ["no adapter"] * (words + cells)
    model.give_contexts(0, 1 + cells + words)
    assert model.contexts.numbers is not None
    names = [f"the adapter of {CONTEXT_NAMES[model.adapter.contexts][i]}" for i in model.contexts.numbers.tolist()]
    return [*names[1 + cells :], *names[1 : 1 + cells]]


def _strip(
    models: Mapping[str, Captioner],
    maps: Float[Tensor, "scenes models blocks tokens rows columns"],
    task: CaptionTask,
    rows: Sequence[int],
    words: Sequence[Sequence[str]],
) -> Figure:
    """Where the shape of the first solid looks in the last block, a row a model, for paper."""
    size = (6.4, 2.4 * len(models))
    figure, axes = plt.subplots(len(models), len(rows), figsize=size, layout="constrained", squeeze=False)
    grey = task.pixels("test", (112, 112), rows).float().mean(-1)
    for j, name in enumerate(models):
        for i, ax in enumerate(axes[j]):
            bare(ax, f"{words[i][ATTRIBUTES]!r}, {name}").imshow(grey[i].numpy(), cmap="gray")
            ax.imshow(maps[i, j, -1, ATTRIBUTES].numpy(), cmap=HEAT, alpha=0.6, extent=(-0.5, 111.5, 111.5, -0.5))
    return figure
