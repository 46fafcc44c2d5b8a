"""How much each channel of an activation matters to the loss: a first-order Taylor term and its alternatives.

Setting channel c of an activation h to zero changes the loss of an image by about |sum_t h_tc g_tc| with g = dL/dh
(Molchanov et al. 2017): one forward and one backward pass estimate it for every channel of every layer at once.
SCT (Zhao et al. 2023, arXiv 2309.08513) asks for no loss: the channels with the largest activations are its choice.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64
from timm.models.vision_transformer import ResPostBlock
from torch import Tensor, nn

from ...backbones.stages import run_stages
from ...backbones.swin import refuse_windows
from ...backbones.types import Images, Labels, ViT
from ...common.errors import check_choice
from ...common.progress import progress

CRITERIA = ("taylor", "squared", "gradient", "l2", "sct", "random")
PLACEMENTS = ("residual", "mlp", "qv")


class Place(NamedTuple):
    """Some channels of what goes into a module (kind "input") or comes out of it ("output")."""

    module: nn.Module
    kind: str
    channels: slice


def places(vit: ViT, placement: str = "residual") -> list[Place]:
    """The activations of a placement, block by block; of "qv" two in each block, q and v.

    "residual": the residual stream after attention, which the second norm reads (or the MLP, where norms come after);
    "mlp": what the MLP gives; "qv": queries and values. Raises PeftlabError for another placement, and for a Swin.
    """
    check_choice("placement", placement, PLACEMENTS)
    refuse_windows(vit, "has blocks of several widths, so its channels make no one table")
    D, found = vit.embed_dim, []
    for block in vit.blocks:
        if placement == "residual":
            reader = block.mlp if isinstance(block, ResPostBlock) else block.norm2
            found.append(Place(reader, "input", slice(0, D)))
        elif placement == "mlp":
            found.append(Place(block.mlp, "output", slice(0, D)))
        else:
            found += [Place(block.attn.qkv, "output", slice(i * D, (i + 1) * D)) for i in (0, 2)]
    return found


@contextmanager
def watched(places: Sequence[Place]) -> Iterator[dict[nn.Module, Tensor]]:
    """Within: {module: its activation [B, N, ..] of the last forward pass}, to which gradients can be taken."""
    seen: dict[nn.Module, Tensor] = {}
    hooks = []

    def keep(module: nn.Module, h: Tensor) -> None:
        # Where nothing before it is trained, the tensor itself is marked, so that all its readers count.
        seen[module] = h if h.requires_grad else h.requires_grad_()

    for module, kind, _ in places:
        if kind == "input":
            hooks.append(module.register_forward_pre_hook(lambda module, args: keep(module, args[0])))
        else:
            hooks.append(module.register_forward_hook(lambda module, args, output: keep(module, output)))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def activations_and_gradients(vit: ViT, places: Sequence[Place], x: Images, y: Labels) -> list[tuple[Tensor, Tensor]]:
    """(h, g) for each place, both [B, N, D]: activations of images x and the gradients of each image's own loss."""
    with torch.enable_grad(), watched(places) as seen:
        loss = F.cross_entropy(vit(x), y, reduction="sum")  # summed: no image's gradient depends on the batch size
        gradients = dict(zip(seen, torch.autograd.grad(loss, list(seen.values())), strict=True))
    return [(seen[m].detach()[..., channels], gradients[m][..., channels]) for m, _, channels in places]


def of_images(
    criterion: str, h: Float[Tensor, "batch tokens width"], g: Float[Tensor, "batch tokens width"]
) -> Float[Tensor, "batch width"]:
    """Scores [B, D] of each image from h and g [B, N, D]: tokens are summed before the absolute value."""
    if criterion == "taylor":
        return (h * g).sum(1).abs()
    return (h * g).sum(1).square() if criterion == "squared" else g.sum(1).abs()


@torch.no_grad()
def class_norms(
    vit: ViT, places: Sequence[Place], batches: Iterable[tuple[Tensor, Tensor]], first: int
) -> Float64[Tensor, "places width"]:
    """The l2 norm of each channel over all tokens, from the first on, of all images of a class; mean over classes."""
    sums: dict[int, Any] = defaultdict(int)
    for x, y in batches:
        with watched(places) as seen:
            vit.forward_features(x)
        squares = [seen[m][:, first:, channels].double().square().sum(1).cpu() for m, _, channels in places]
        for label in y.unique().tolist():
            sums[label] += torch.stack([each[y.cpu() == label].sum(0) for each in squares])
    return torch.stack(list(sums.values())).sqrt().mean(0)


def channel_scores(
    vit: ViT,
    batches: Iterable[tuple[Tensor, Tensor]],
    placement: str = "residual",
    criterion: str = "taylor",
    balanced: bool = False,
    prefix: bool = True,
    seed: int = 0,
) -> Float64[Tensor, "places width"]:
    """Importance of every channel, float64 [places, D] on the CPU, the same whatever the batch size.

    batches: (images x [B, 3, H, W], labels y [B]) on the model's device. criterion: "taylor", mean over images of
    |sum_t h g|; "squared", of its square; "gradient", of |sum_t g|; "l2", ours: the norm of h over all tokens of a
    class, mean over classes; "sct", the same as SCT has it: patches alone, and for "mlp" of the residual stream behind
    the block; "random". SCT scores the plain pre-trained backbone; like "l2", its rule reads no head.
    balanced: mean over classes of the means over their images. prefix=False: count patches alone; where the head reads
    CLS, the last block's stream then scores 0 throughout by gradients. Raises PeftlabError for an unknown criterion.
    """
    check_choice("criterion", criterion, CRITERIA)
    where = places(vit, placement)
    if criterion == "random":
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(len(where), vit.embed_dim, generator=generator, dtype=torch.float64)
    first, vit = vit.num_prefix_tokens if criterion == "sct" or not prefix else 0, vit.eval()
    if criterion == "sct" and placement == "mlp":
        where = [Place(block, "output", slice(0, vit.embed_dim)) for block in vit.blocks]
    if criterion in ("l2", "sct"):
        return class_norms(vit, where, batches, first)
    sums = torch.zeros(vit.num_classes, len(where), vit.embed_dim, dtype=torch.float64)
    counts = torch.zeros(vit.num_classes, dtype=torch.float64)
    for x, y in batches:
        pairs = activations_and_gradients(vit, where, x, y)
        scores = torch.stack([of_images(criterion, h[:, first:].double(), g[:, first:].double()) for h, g in pairs], 1)
        sums.index_add_(0, y.cpu(), scores.cpu())
        counts += torch.bincount(y.cpu(), minlength=vit.num_classes)
    sums, counts = sums[counts > 0], counts[counts > 0]
    return (sums / counts[:, None, None]).mean(0) if balanced else sums.sum(0) / counts.sum()


def choose(
    scores: Float[Tensor, "places width"], k: int, order: str = "top", budget: str = "layer"
) -> list[Int64[Tensor, " chosen"]]:
    """Chosen channels of each place, a list of rising int64 indices, from scores [places, D]. Ties: the lower index.

    budget: "layer", k of each place; "global", k times the number of places over all, after each place's scores were
    divided by their l2 norm, so that places compare. order: "top", "bottom".

    >>> scores = torch.tensor([[1.0, 5.0, 3.0], [2.0, 0.0, 9.0]])
    >>> choose(scores, 1), choose(scores, 2, order="bottom")
    ([tensor([1]), tensor([2])], [tensor([0, 2]), tensor([0, 1])])
    """

    def first(values: Tensor, n: int) -> Tensor:
        return values.argsort(descending=order == "top", stable=True)[:n]

    if budget == "layer":
        return [first(row, k).sort()[0] for row in scores]
    flat = F.normalize(scores, dim=1).flatten()
    chosen = first(flat, k * len(scores)).sort()[0]
    return [chosen[chosen // scores.shape[1] == i] % scores.shape[1] for i in range(len(scores))]


@torch.no_grad()
def removal(
    vit: ViT, x: Images, y: Labels, block: int, placement: str = "residual", step: float = 1.0
) -> Float[Tensor, " width"]:
    """The truth that scores estimate: mean over images of |change of the loss| when one channel is scaled -> [D].

    step 1 removes a channel from all tokens of images x, a small one scales it to 1 - step. Runs everything from the
    block on once for each channel. Not for "qv".
    """
    place, losses = places(vit, placement)[block], []
    x = run_stages(vit, x, stop=1 + block)

    def loss(channel: int | None = None) -> Tensor:
        def scale(h: Tensor) -> None:  # in place: the skip path carries the same tensor
            if channel is not None:
                h[..., channel] *= 1 - step

        if place.kind == "input":
            hook = place.module.register_forward_pre_hook(lambda module, args: scale(args[0]))
        else:
            hook = place.module.register_forward_hook(lambda module, args, output: scale(output))
        try:
            return F.cross_entropy(run_stages(vit, x, start=1 + block), y, reduction="none")
        finally:
            hook.remove()

    full = loss()
    for channel in progress(range(vit.embed_dim), desc="removing channels", unit="channel"):
        losses.append((loss(channel) - full).abs().mean())
    return torch.stack(losses).cpu()
