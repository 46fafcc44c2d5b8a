"""GIFT's clusters of parameters read as segmentations of images, and the same maps from elsewhere.

The assignment C [d_out, M] of a layer's output channels to clusters is a head on that layer's output: f(x; W+) C are M
maps of an image. Recipe of the released visualiser (see methods/gift_linear.py): the layer's output with its bias,
before the residual add, patches only; bilinear upsampling; each map stretched to [0, 1]; zero below 0.5.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from torch import Tensor, nn

from ..backbones.preprocess import prepare_for
from ..backbones.stages import outputs
from ..backbones.swin import refuse_windows
from ..backbones.types import Images, Pixels, ViT
from ..common.errors import PeftlabError, check_choice, check_index
from ..methods.core.layers import LINEARS
from ..methods.core.model import PeftModel
from ..methods.gift_linear import GeneratedLinear
from ..training.precision import computing, pick_precision

THRESHOLD = 0.5


def _layer(vit: ViT, layer: int, target: str) -> nn.Module:
    check_choice("target", target, LINEARS)
    check_index("layer", layer, len(vit.blocks))
    return vit.blocks[layer].get_submodule(LINEARS[target])


@torch.inference_mode()
def layer_output(
    model: PeftModel | ViT, pixels: Pixels, layer: int = -1, target: str = "o"
) -> Float[Tensor, "batch rows columns d_out"]:
    """f: a linear layer's output for the patches of images, on the CPU.

    By default the output projection of the last block's attention.
    """
    vit: ViT = getattr(model, "vit", model)
    refuse_windows(vit, "attends within windows and merges patches, so its layers give no one map of an image")
    (tokens,) = outputs(vit, [_layer(vit, layer, target)], prepare_for(vit, pixels))
    return tokens[:, -vit.patch_embed.num_patches :].unflatten(1, vit.patch_embed.grid_size).cpu()


@torch.inference_mode()
def assignment(model: PeftModel, layer: int = -1, target: str = "o") -> Float[Tensor, "d_out clusters"]:
    """C of a layer of a model tuned with gift or gift_linear, on the CPU.

    Raises PeftlabError where the layer's change is not generated.
    """
    module = _layer(model.vit, layer, target)
    if not isinstance(module, GeneratedLinear):
        raise PeftlabError(
            f"{model.method.title} generates no change of {LINEARS[target]} in block {layer}; take a model of "
            f"'gift' or 'gift_linear' whose targets contain {target!r}"
        )
    generator = module.shared[0]
    return generator.clusters(generator.weights())[module.index].cpu()


@torch.inference_mode()
def generator_steps(model: PeftModel, layer: int = -1) -> dict[str, Float[Tensor, "d_out _"]]:
    """What the generator of a gift model makes of one layer: W, tokens U, clusters C, attention A, change; on the CPU.

    The layer is the output projection of a block's attention; A is the mean over heads. Raises PeftlabError where no
    hyper-transformer makes its change.
    """
    linear, seen = _layer(model.vit, layer, "o"), []
    generator: Any = linear.shared[0] if isinstance(linear, GeneratedLinear) else None
    if not hasattr(generator, "blocks"):
        raise PeftlabError(f"{model.method.title} has no hyper-transformer; take a model of 'gift' that changes 'o'")
    index = linear.index
    weights, paca = generator.weights(), generator.blocks[-1].attn
    hook = paca.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    try:
        tokens = generator(weights)
    finally:
        hook.remove()
    U = seen[0]
    steps = {
        "W": weights[index],
        "tokens U": U[index],
        "clusters C": paca.assignment(U)[index],
        "attention A": paca.attention(U, paca.soft_clusters(U))[index].mean(0),
        "change": generator.recover(tokens)[index],
    }
    return {name: step.cpu() for name, step in steps.items()}


@torch.no_grad()
def answers_kept(
    model: PeftModel, images: Images, changes: Mapping[str, Float[Tensor, "layers rows width"]]
) -> dict[str, float]:
    """Share of images whose class a gift model still names when its layers change otherwise.

    changes: {label: what to add to the frozen projections instead of what the generator makes}. All answers are
    computed as in evaluation, in bf16 where the device has it.
    """
    where = images.device

    def answer(vit: ViT) -> Int64[Tensor, " batch"]:
        with computing(vit, where, pick_precision("auto", where)):
            return vit(images).argmax(-1)

    answers, own = answer(model.merge()), model.vit.blocks[0].shared["generator_o"].deltas()
    kept = {}
    for label, change in changes.items():
        vit = model.merge()
        for block, difference in zip(vit.blocks, change - own, strict=True):
            block.attn.proj.weight += difference
        kept[label] = (answer(vit) == answers).float().mean().item()
    return kept


def cluster_maps(
    model: PeftModel, pixels: Pixels, layer: int = -1, target: str = "o", centred: bool = True
) -> Float[Tensor, "batch clusters rows columns"]:
    """The M cluster maps f C of each image, of `centre`d features; centred=False: as published, one map M times."""
    f = layer_output(model, pixels, layer, target)
    return maps_of(centre(f) if centred else f, assignment(model, layer, target))


def centre(f: Float[Tensor, "*patches channels"]) -> Float[Tensor, "*patches channels"]:
    """Features less their mean over channels. What all channels share raises all maps alike, where C > 0.

    Without LayerScale it is what the next LayerNorm makes of them.
    """
    return f - f.mean(-1, keepdim=True)


def maps_of(
    f: Float[Tensor, "batch rows columns channels"], C: Float[Tensor, "channels clusters"]
) -> Float[Tensor, "batch clusters rows columns"]:
    """Features f read along the columns of C: one map a column.

    >>> maps_of(torch.ones(2, 8, 8, 192), torch.ones(192, 96)).shape
    torch.Size([2, 96, 8, 8])
    """
    return (f @ C).movedim(-1, 1)


def stretch(maps: Float[Tensor, "*maps rows columns"]) -> Float[Tensor, "*maps rows columns"]:
    """Each map from its least to its greatest value -> [0, 1]; a constant map becomes 0.

    >>> stretch(torch.tensor([[-1.0, 0.0], [1.0, 3.0]]))
    tensor([[0.0000, 0.2500],
            [0.5000, 1.0000]])
    """
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low).clamp_min(1e-12)


def highlight(
    maps: Float[Tensor, "batch clusters rows columns"], size: Sequence[int]
) -> Float[Tensor, "batch clusters height width"]:
    """Maps as the recipe shows them on images of `size` (height, width): upsampled, stretched, zero below 0.5."""
    large = stretch(F.interpolate(maps, size=size, mode="bilinear", align_corners=False))
    return torch.where(large >= THRESHOLD, large, 0.0)


def correlation(maps: Float[Tensor, "batch clusters rows columns"]) -> float:
    """Mean correlation of two clusters' maps of an image: 1 where all clusters show one and the same.

    >>> one = torch.tensor([[0.0, 1.0], [2.0, 4.0]])
    >>> correlation(torch.stack([one, 3 * one + 1])[None])
    1.0
    """
    n = maps.shape[1]
    total = torch.stack([torch.corrcoef(each).sum() for each in maps.flatten(2)]).mean().item()
    return round((total - n) / (n * (n - 1)), 4)


# --- the same maps from elsewhere: controls ---


def pca_maps(f: Float[Tensor, "batch rows columns channels"], n: int) -> Float[Tensor, "batch maps rows columns"]:
    """n maps: the first n/2 principal components of features f, each with both signs."""
    components = PCA(min(n // 2, f.shape[-1]), random_state=0).fit(f.flatten(0, 2).numpy()).components_
    return maps_of(f, torch.from_numpy(np.concatenate([components, -components]).T).float())


def kmeans_maps(
    f: Float[Tensor, "batch rows columns channels"], n: int, seed: int = 0
) -> Float[Tensor, "batch maps rows columns"]:
    """n maps, 1 where a patch of f belongs to the cluster and 0 elsewhere; clustered over all images."""
    labels = KMeans(n, n_init=1, random_state=seed).fit_predict(f.flatten(0, 2).numpy())
    return F.one_hot(torch.from_numpy(labels).long(), n).unflatten(0, f.shape[:3]).movedim(-1, 1).float()


def random_maps(
    f: Float[Tensor, "batch rows columns channels"], n: int, seed: int = 0
) -> Float[Tensor, "batch maps rows columns"]:
    """n maps: features f along n random directions."""
    return maps_of(f, torch.randn(f.shape[-1], n, generator=torch.Generator().manual_seed(seed)))
