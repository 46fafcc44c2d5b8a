"""GIFT's clusters of parameters read as segmentations of images, and how well any such maps fit known objects.

The assignment C [d_out, M] of a layer's output channels to clusters is a head on that layer's output: f(x; W+) C are M
maps of an image. Recipe of the released visualiser (see methods/gift_linear.py): the layer's output with its bias,
before the residual add, patches only; bilinear upsampling; each map stretched to [0, 1]; zero below 0.5.
"""

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from ..backbones.preprocess import prepare_for
from ..backbones.stages import outputs
from ..common.errors import PeftlabError, check_choice
from ..methods.core.layers import LINEARS
from ..methods.gift_linear import GeneratedLinear
from ..results.statistics import mean_interval

THRESHOLD = 0.5


def _layer(vit, layer, target):
    check_choice("target", target, LINEARS)
    return vit.blocks[layer].get_submodule(LINEARS[target])


@torch.inference_mode()
def layer_output(model, pixels, layer=-1, target="o"):
    """f [B, h, w, d_out]: a linear layer's output for the patches of uint8 images [B, H, W, 3], on the CPU.

    model: a PeftModel or a ViT. By default the output projection of the last block's attention.
    """
    vit = getattr(model, "vit", model)
    (tokens,) = outputs(vit, [_layer(vit, layer, target)], prepare_for(vit, pixels))
    return tokens[:, -vit.patch_embed.num_patches :].unflatten(1, vit.patch_embed.grid_size).cpu()


@torch.inference_mode()
def assignment(model, layer=-1, target="o"):
    """C [d_out, M] of a layer of a model tuned with gift or gift_linear, on the CPU.

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


def cluster_maps(model, pixels, layer=-1, target="o", residual=True, centred=False):
    """The M cluster maps f C of each image, [B, M, h, w].

    residual=False: f of the frozen layers, C as trained. centred=True (not in the recipe): each patch of f less its
    mean over channels, as the next LayerNorm sees it. What all channels share raises all maps alike, where C > 0.
    """
    f = layer_output(model if residual else model.backbone, pixels, layer, target)
    return maps_of(f - f.mean(-1, keepdim=True) if centred else f, assignment(model, layer, target))


def maps_of(f, C):
    """Features f [B, h, w, D] read along the columns of C [D, M] -> maps [B, M, h, w]."""
    return (f @ C).movedim(-1, 1)


def stretch(maps):
    """Each map [.., h, w] from its least to its greatest value -> [0, 1]; a constant map becomes 0."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low).clamp_min(1e-12)


def highlight(maps, size):
    """Maps [B, M, h, w] as the recipe shows them on images of `size`: upsampled, stretched, zero below 0.5."""
    large = stretch(F.interpolate(maps, size=size, mode="bilinear", align_corners=False))
    return torch.where(large >= THRESHOLD, large, 0.0)


def winners(maps):
    """Number of the cluster whose stretched map is highest at each patch, [B, h, w]: a hard segmentation."""
    return stretch(maps).argmax(1)


# --- the same maps from elsewhere: controls ---


def pca_maps(f, n):
    """n maps: the first n/2 principal components of features f [B, h, w, D], each with both signs."""
    components = PCA(min(n // 2, f.shape[-1]), random_state=0).fit(f.flatten(0, 2).numpy()).components_
    return maps_of(f, torch.from_numpy(np.concatenate([components, -components]).T).float())


def kmeans_maps(f, n):
    """n maps, 1 where a patch of f [B, h, w, D] belongs to the cluster and 0 elsewhere; clustered over all images."""
    labels = KMeans(n, n_init=1, random_state=0).fit_predict(f.flatten(0, 2).numpy())
    return F.one_hot(torch.from_numpy(labels).long(), n).unflatten(0, f.shape[:3]).movedim(-1, 1).float()


def random_maps(f, n):
    """n maps: features f [B, h, w, D] along n random directions."""
    return maps_of(f, torch.randn(f.shape[-1], n, generator=torch.Generator().manual_seed(0)))


# --- the measure ---


def iou(regions, objects):
    """Intersection over union of bool regions [M, H, W] with bool objects [O, H, W] -> [O, M]."""
    a, b = objects.flatten(1).float(), regions.flatten(1).float()
    both = a @ b.T
    return both / (a.sum(1, keepdim=True) + b.sum(1) - both).clamp_min(1)


def drawn_coarsely(objects, grid):
    """Bool objects [O, H, W] as maps of their coverage on a grid of patches, [O, h, w]: what no map has to guess."""
    cell = [n // g for n, g in zip(objects.shape[1:], grid, strict=True)]
    return F.avg_pool2d(objects[:, None].float(), cell)[:, 0]


def iou_table(sources, objects):
    """How well maps find objects -> DataFrame, a row a source.

    sources: {label: maps [B, M, h, w]}; objects: for each image bool [O, H, W]. best: of all M maps the one with the
    highest IoU, chosen anew for each object *by looking at the answer*; low, high: Student's 95 % interval of its mean
    over images. one_for_all: a single map, chosen on every second image, measured on the others. The last row says how
    far the recipe itself gets: the objects' own coverage of the patches, handed over as their maps.
    """
    size, rows = objects[0].shape[1:], []
    for label, maps in sources.items():
        each = [iou(highlight(m[None], size)[0] > 0, o) for m, o in zip(maps, objects, strict=True)]  # [O, M] an image
        best, low, high = mean_interval([table.amax(1).mean().item() for table in each])
        mean = torch.stack([table.mean(0) for table in each])
        one = mean[1::2, mean[::2].mean(0).argmax()].mean().item()
        row = {"maps": maps.shape[1], "best": best, "low": low, "high": high, "one_for_all": one}
        rows.append({"source": label} | row)
    coarse = [drawn_coarsely(o, maps.shape[-2:]) for o in objects]
    own = [iou(highlight(c[None], size)[0] > 0, o).diagonal() for c, o in zip(coarse, objects, strict=True)]
    best, low, high = mean_interval([each.mean().item() for each in own])
    rows.append({"source": "the objects themselves", "best": best, "low": low, "high": high})
    return pd.DataFrame(rows).set_index("source")
