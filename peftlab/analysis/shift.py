"""Distribution shift inside a ViT: channel statistics of a task's images against those of pre-training images."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..backbones.load import EMBEDDED
from ..backbones.preprocess import prepare_for
from ..backbones.stages import outputs
from ..backbones.swin import refuse_windows
from ..backbones.types import Pixels, ViT
from ..common.errors import PeftlabError
from ..common.tensors import read_tensors


@torch.inference_mode()
def channel_statistics(vit: ViT, pixels: Pixels) -> Float[Tensor, "blocks 2 channels"]:
    """Mean and standard deviation of what each block's attention reads, LN1(x), over patches and images."""
    refuse_windows(vit, "has blocks of several widths, so its channels make no one table")
    tokens = outputs(vit, [block.norm1 for block in vit.blocks], prepare_for(vit, pixels))
    flat = [t[:, -vit.patch_embed.num_patches :].flatten(0, 1) for t in tokens]
    return torch.stack([torch.stack([t.mean(0), t.std(0)]) for t in flat]).cpu()


def reference_statistics(name: str = "peftlab_vit_mini") -> Float[Tensor, "blocks 2 channels"]:
    """`channel_statistics` of the embedded `peftlab_vit_mini` on images of its pre-training.

    Raises PeftlabError for other backbones: nobody has their pre-training images at hand.
    """
    file = EMBEDDED["peftlab_vit_mini"].with_name(f"{name}_statistics.safetensors")
    if not file.is_file():
        raise PeftlabError(f"no statistics of {name} on its pre-training images; give channel_statistics of others")
    return read_tensors(file)[0]["statistics"]


def distance(
    statistics: Float[Tensor, "blocks 2 channels"], reference: Float[Tensor, "blocks 2 channels"]
) -> Float[Tensor, " blocks"]:
    """Median over channels of the 2-Wasserstein distance of Gaussians, in the reference's standard deviations.

    Of channel c: sqrt((m - m0)^2 + (s - s0)^2) / s0 with means m and deviations s. The median, because a few channels
    that hardly vary on the reference's images (s0 near 0) would rule a mean.

    >>> reference = torch.tensor([[[0.0, 5.0, 0.0], [1.0, 2.0, 0.001]]])  # one block: 3 means, 3 standard deviations
    >>> moved = torch.tensor([[[3.0, 11.0, 1.0], [1.0, 2.0, 0.001]]])  # by 3, 3 and 1000 deviations
    >>> distance(moved, reference)
    tensor([3.])
    """
    (mean, std), (mean0, std0) = statistics.unbind(1), reference.unbind(1)
    each = ((mean - mean0) ** 2 + (std - std0) ** 2).sqrt() / std0
    return each.quantile(0.5, dim=1)
