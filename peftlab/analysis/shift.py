"""Distribution shift inside a ViT: channel statistics of a task's images against those of pre-training images."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..backbones.load import EMBEDDED
from ..backbones.preprocess import prepare_for
from ..backbones.stages import outputs
from ..backbones.types import Pixels, ViT
from ..common.errors import PeftlabError
from ..common.files import read_tensors


@torch.inference_mode()
def channel_statistics(vit: ViT, pixels: Pixels) -> Float[Tensor, "blocks 2 channels"]:
    """Mean and standard deviation of what each block's attention reads, LN1(x), over patches and images."""
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
    """Root mean square over channels of the 2-Wasserstein distance of Gaussians, in the reference's units.

    >>> reference = torch.tensor([[[0.0, 5.0], [1.0, 2.0]]])  # one block, two channels: means, standard deviations
    >>> moved = torch.tensor([[[3.0, 11.0], [1.0, 2.0]]])  # both means by three deviations
    >>> distance(moved, reference)
    tensor([3.])
    """
    (mean, std), (mean0, std0) = statistics.unbind(1), reference.unbind(1)
    return (((mean - mean0) ** 2 + (std - std0) ** 2) / std0**2).mean(1).sqrt()
