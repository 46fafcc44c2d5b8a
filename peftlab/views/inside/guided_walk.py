"""A guided walk through two models, from a photograph to the answer, with the numbers that they compute on the way."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ...analysis.changes import block_changes
from ...backbones.identity import describe
from ...backbones.preprocess import input_size, normalisation
from ...common.errors import PeftlabError
from ...methods import attach
from ...methods.core.model import PeftModel
from ...tasks.photographs import Photograph
from ..block_diagram import block as block_diagram
from ..style import DIVERGING, FREE, HEAT, PALETTE, Image, bare
from .forward import Inside, class_names, follow
from .packing import colors, deflated, pack
from .part import part, svg
from .walk_steps import OF_A_HEAD, steps

METHODS = ("linear", "lora", "vpt", "adapter", "gist", "gift", "norm", "two_stage")
FIRST = 4  # numbers of a vector that are printed
LIKELIEST = 5
Answers: TypeAlias = list[tuple[str, float]]  # classes and their probabilities


@dataclass(frozen=True)
class Walk:
    """What `walk` gives and `pl.views.show` displays: data as walk.js reads them, and a figure for paper."""

    data: dict[str, Any]
    strip: Figure

    def html(self, says: str) -> str:
        """The walk as HTML, the figure for paper and for pages without scripts included."""
        return part(self.data, self.strip, says, "walk.js", ["explorer.css", "walk.css"])


def walk(models: Mapping[str, PeftModel], photograph: Photograph) -> Walk:
    """From a photograph to the answers of two models side by side, and where methods enter on the way -> Walk.

    models: {name: model}, the frozen one first. Raises PeftlabError for other than two models with heads that read the
    CLS token of one backbone, and for methods that put tokens or sums of their own into the sequence.
    """
    _check(models)
    names, frozen = list(models), next(iter(models.values()))
    size, prefix = input_size(frozen.vit), frozen.vit.num_prefix_tokens
    pixels, (rows, columns) = photograph.pixels(size), frozen.vit.patch_embed.grid_size
    a, b = both = [follow(name, model, pixels) for name, model in models.items()]
    answers = [likeliest(model, inside) for model, inside in zip(models.values(), both, strict=True)]
    patch = rows // 2 * columns + columns // 2
    block = int((b.attention - a.attention)[:, prefix + patch].abs().sum(-1).argmax())
    stream, attention = (torch.stack(each) for each in ([a.stream, b.stream], [a.attention, b.attention]))
    data = {
        "title": "A walk from a photograph to the answer",
        "models": names,
        "steps": steps(frozen, a),
        "grid": [rows, columns],
        "prefix": ["CLS", *(f"register {i}" for i in range(1, prefix))],
        "blocks": len(a.qkv),
        "heads": a.qkv.shape[3],
        "first": FIRST,
        "patch": patch,
        "block": block,
        "photograph": {"size": size, "says": photograph.caption, "codes": deflated(pixels.numpy().tobytes())},
        "normalisation": [t.flatten().tolist() for t in normalisation(frozen.vit)],
        "embedded": _numbers(torch.stack([inside.embedded[..., :FIRST] for inside in both])),
        "tokens": pack(torch.stack([inside.embedded[2, :, None] for inside in both])),
        "qkv": pack(torch.stack([inside.qkv[..., :OF_A_HEAD] for inside in both])),
        "vectors": _numbers(torch.stack([inside.qkv[:, :, :, 0, :FIRST] for inside in both])),
        "moved": _numbers(moved(a.qkv.flatten(-2), b.qkv.flatten(-2))),
        "attention": pack(attention[..., None, prefix:]),
        "given": _numbers(attention[..., :prefix]),
        "stream": _numbers(torch.cat([stream.norm(dim=-1, keepdim=True), stream[..., :FIRST]], dim=-1)),
        "features": _numbers(torch.stack([a.features, b.features])),
        "alike": [
            *F.cosine_similarity(a.stream[:, 0, 3], b.stream[:, 0, 3], dim=-1).tolist(),
            _cosine(a.features, b.features),
        ],
        "answers": answers,
        "methods": deflated(json.dumps([entry(frozen, name) for name in METHODS]).encode()),
        "colors": {"heat": colors(HEAT), "signed": colors(DIVERGING)},
    }
    maps = {name: inside.attention[block, prefix + patch, prefix:] for name, inside in zip(names, both, strict=True)}
    shown = {name: map_.reshape(rows, columns) for name, map_ in maps.items()}
    return Walk(data, _strip(pixels[0], a.embedded[2], shown, dict(zip(names, answers, strict=True)), block + 1))


def moved(
    before: Float[Tensor, "*vectors channels"], after: Float[Tensor, "*vectors channels"]
) -> Float[Tensor, "*vectors"]:
    """How far vectors moved, in their own lengths.

    >>> moved(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 5.0]))
    tensor(0.2000)
    """
    return (after - before).norm(dim=-1) / before.norm(dim=-1)


def likeliest(model: PeftModel, inside: Inside) -> Answers:
    """The classes with the largest probabilities."""
    names = class_names(model)
    top = inside.probabilities.topk(min(LIKELIEST, model.num_classes))
    return [(names[i].replace("_", " "), p) for p, i in zip(top.values.tolist(), top.indices.tolist(), strict=True)]


def entry(model: PeftModel, name: str) -> dict[str, Any]:
    """A method with its default options on the backbone of a model: what it trains, at which steps of the walk."""
    tuned = attach(model.backbone, name, model.num_classes)
    at = {step(path, role) for path, role in block_changes(tuned, 0)}
    if any(p.requires_grad for p in tuned.vit.norm.parameters()):
        at.add("cls")
    figure, ax = plt.subplots(figsize=(6.4, 1.5), layout="constrained")
    block_diagram(tuned, 0, ax)
    return {
        "name": tuned.method.title,
        "idea": tuned.method.idea,
        "parameters": tuned.method_parameters,
        "notMergeable": tuned.method.not_mergeable,
        "steps": [name for name in ("tokens", "qkv", "residual", "cls") if name in at] or ["answer"],
        "picture": svg(figure),
    }


def step(path: str, role: str) -> str:
    """The step of the walk at which a trained tensor of a block acts; see `analysis.changes.path_and_role`.

    >>> step("attn.qkv", "parallel"), step("", "prompts"), step("mlp", "after")
    ('qkv', 'tokens', 'residual')
    """
    if role in ("prompts", "gist"):
        return "tokens"
    return "qkv" if path in ("norm1", "attn.qkv") else "residual"


def _check(models: Mapping[str, PeftModel]) -> None:
    if len(models) != 2:
        raise PeftlabError(f"the walk shows two models side by side, not {len(models)}")
    for name, model in models.items():
        if not isinstance(model, PeftModel):
            raise PeftlabError(f"{name} has no head to answer with; give a model of pl.attach or pl.load_run")
        if not model.vit.has_class_token or model.vit.global_pool != "token":
            raise PeftlabError(f"the head of {name} reads no CLS token, which the walk follows")
    (first, a), (second, b) = models.items()
    if input_size(a.vit) != input_size(b.vit):
        sizes = f"{input_size(a.vit)} pixels, {second} of {input_size(b.vit)}"
        raise PeftlabError(f"{first} reads images of {sizes}; load both for one size")
    if describe(a.backbone) != describe(b.backbone):
        raise PeftlabError(f"{first} and {second} stand on different backbones; take one for both")


def _cosine(a: Float[Tensor, " width"], b: Float[Tensor, " width"]) -> float:
    return F.cosine_similarity(a, b, dim=0).item()


def _numbers(values: Tensor) -> str:
    """Numbers to three digits and more, as 32-bit floats that end in zeros, which deflate well."""
    return deflated(values.half().float().numpy().astype("<f4").tobytes())


def _strip(
    image: Image,
    tokens: Float[Tensor, "tokens channels"],
    maps: Mapping[str, Float[Tensor, "rows columns"]],
    answers: Mapping[str, Answers],
    block: int,
) -> Figure:
    """Photograph, tokens, where the middle patch attends in one block, and answers, for paper."""
    figure, axes = plt.subplots(2, 3, figsize=(9, 5.4), layout="constrained")
    (first, a), (second, b) = maps.items()
    rows, columns = a.shape
    limit, top, apart = (t.item() for t in (tokens.abs().quantile(0.99), torch.max(a, b).max(), (b - a).abs().max()))
    extent = (0, columns, rows, 0)
    bare(axes[0, 0], "Photograph, one patch chosen").imshow(image.numpy(), extent=extent)
    bare(axes[0, 1], f"{len(tokens)} tokens x {tokens.shape[1]} numbers").imshow(
        tokens.numpy(), DIVERGING, aspect="auto", interpolation="none", vmin=-limit, vmax=limit
    )
    bare(axes[0, 2], f"{first}, block {block}: most {a.max():.1%}").imshow(
        a.numpy(), HEAT, extent=extent, vmin=0, vmax=top
    )
    bare(axes[1, 0], f"{second}, block {block}: most {b.max():.1%}").imshow(
        b.numpy(), HEAT, extent=extent, vmin=0, vmax=top
    )
    bare(axes[1, 1], f"{second} less {first}").imshow(
        (b - a).numpy(), DIVERGING, extent=extent, vmin=-apart, vmax=apart
    )
    for ax in axes.flat[[0, 2, 3, 4]]:
        ax.add_patch(Rectangle((columns // 2, rows // 2), 1, 1, fill=False, edgecolor="#56b4e9", linewidth=2))
    for (name, likely), color in zip(answers.items(), (FREE, PALETTE[0]), strict=True):
        axes[1, 2].barh([f"{name}: {says}" for says, _ in likely[:3]], [100 * p for _, p in likely[:3]], color=color)
    axes[1, 2].yaxis.tick_right()
    axes[1, 2].invert_yaxis()
    axes[1, 2].set(xlabel="probability (%)", title="Answers")
    return figure
