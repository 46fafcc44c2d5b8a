"""What a trained model answers: how sure it is, whether rightly, which mistakes it makes, which patches it needs."""

from collections import Counter

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ..backbones.preprocess import prepare_for
from ..backbones.swin import SwinViT
from ..backbones.types import Labels, Pixels, ViT
from ..methods.core.importance import activations_and_gradients, places
from ..methods.core.model import PeftModel
from .attention import patch_attention

BINS = 10
TOLERATED = 2  # points between mean confidence and accuracy


def calibration(p: Float[Tensor, "images classes"], labels: Int64[Tensor, " images"]) -> pd.DataFrame:
    """Confidence against accuracy in ten bins of confidence -> DataFrame: confidence, accuracy, images; no empty bin.

    p: probabilities. Guo et al. 2017, arXiv 1706.04599.
    """
    sure, said = p.max(1)
    bins = (sure * BINS).long().clamp(max=BINS - 1).numpy()
    each = pd.DataFrame({"confidence": sure.numpy(), "accuracy": (said == labels).double().numpy(), "images": 1})
    return each.groupby(bins).agg({"confidence": "mean", "accuracy": "mean", "images": "sum"})


def calibration_error(table: pd.DataFrame) -> float:
    """Mean distance of confidence and accuracy over images (ECE), from `calibration`.

    >>> calibration_error(pd.DataFrame({"confidence": [0.5, 0.9], "accuracy": [0.6, 0.9], "images": [10, 30]}))
    0.025
    """
    gap = (table["confidence"] - table["accuracy"]).abs()
    return round(float(np.average(gap, weights=table["images"])), 4)


def mistakes(p: Float[Tensor, "images classes"], labels: Int64[Tensor, " images"], most: int) -> pd.DataFrame:
    """Wrong answers, the surest first -> DataFrame: image (its row), said, label, confidence.

    >>> mistakes(torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.8, 0.2]]), torch.tensor([1, 1, 1]), 1).to_dict("records")
    [{'image': 0, 'said': 0, 'label': 1, 'confidence': 0.8999999761581421}]
    """
    sure, said = p.max(1)
    table = pd.DataFrame({"image": range(len(p)), "said": said, "label": labels, "confidence": sure})
    return table[table["said"] != table["label"]].nlargest(most, "confidence")


def confused(p: Float[Tensor, "images classes"], labels: Int64[Tensor, " images"], names: tuple[str, ...]) -> str:
    """The pair of classes that is mixed up most often, in a sentence; nothing where no answer is wrong."""
    table = mistakes(p, labels, len(p))
    if table.empty:
        return "No answer is wrong."
    pairs = list(zip(table["label"], table["said"], strict=True))
    (label, said), times = Counter(pairs).most_common(1)[0]
    shares = 100 * by_class(p, labels, names)
    most = f"most often {names[label]} is taken for {names[said]} ({times})"
    least = f"{shares.index[0]} is right least often ({shares.iloc[0]:.0f} %; mean over classes {shares.mean():.0f} %)"
    return f"{len(table)} of {len(p)} answers are wrong; {most}; {least}."


def by_class(
    p: Float[Tensor, "images classes"], labels: Int64[Tensor, " images"], names: tuple[str, ...]
) -> pd.Series:
    """{class: share of its images that are answered rightly}, the lowest first; classes without an image have none.

    >>> p, labels = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.8, 0.2]]), torch.tensor([0, 1, 1])
    >>> by_class(p, labels, ("cat", "dog")).to_dict()
    {'dog': 0.5, 'cat': 1.0}
    """
    right = pd.Series((p.argmax(1) == labels).double().numpy())
    shares = right.groupby([names[label] for label in labels.tolist()]).mean()
    return shares.sort_values(kind="stable").rename("right")


def patch_importance(vit: ViT, pixels: Pixels, labels: Labels, block: int) -> Float[Tensor, "images rows columns"]:
    """How much each patch of the residual stream of a block matters to the loss of its image; each map sums to 1.

    |sum_c h g| over channels: a first-order estimate of what setting the patch's token to zero would change, as
    `channel_scores` has it for channels (Molchanov et al. 2017). In the last block only what the head reads counts.
    """
    x = prepare_for(vit, pixels)
    h, g = activations_and_gradients(vit, [places(vit)[block]], x, labels.to(x.device))[0]
    scores = (h * g).sum(-1).abs()[:, -vit.patch_embed.num_patches :].float().cpu()  # behind prefix and added tokens
    scores = scores / scores.sum(-1, keepdim=True).clamp_min(torch.finfo(scores.dtype).tiny)
    return scores.unflatten(1, tuple(vit.patch_embed.grid_size))


def looked_at(
    frozen: ViT, model: PeftModel, pixels: Pixels, labels: Labels, block: int
) -> dict[str, Float[Tensor, "images rows columns"]]:
    """{title: a map an image} of what a tuned model reads, as far as its backbone has it.

    Attention of CLS in the last block, of the frozen backbone and of the model, and `patch_importance`; without a CLS
    token importance alone. A ViT of windows has nothing of this.
    """
    if isinstance(frozen, SwinViT):
        return {}
    importance = {"importance": patch_importance(model.vit, pixels, labels, block)}
    if not frozen.has_class_token:
        return importance
    models = {"frozen": frozen, model.method.name: model}
    return {f"attention, {name}": patch_attention(each, pixels) for name, each in models.items()} | importance


def verdict(table: pd.DataFrame) -> str:
    """What `calibration` found, in words.

    >>> verdict(pd.DataFrame({"confidence": [0.95], "accuracy": [0.80], "images": [50]}))
    'it says 95 % on average and is right on 80 %: it is too sure.'
    """
    n, c = table["images"].sum(), table["confidence"]
    said, right = (100 * np.average(table[name], weights=table["images"]) for name in ("confidence", "accuracy"))
    chance = 200 * np.sqrt((table["images"] * c * (1 - c)).sum()) / n  # two standard errors, if it were calibrated
    how = "it is too sure" if said > right else "it is not sure enough"
    if abs(said - right) <= TOLERATED:
        how = f"on average that fits, and bin by bin it is {100 * calibration_error(table):.1f} points off"
    elif abs(said - right) <= chance:
        how = f"with {n:.0f} images such a difference may be chance (up to {chance:.1f} points)"
    return f"it says {said:.0f} % on average and is right on {right:.0f} %: {how}."
