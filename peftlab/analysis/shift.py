"""Distribution shift inside a ViT: channel statistics of a task's images against those of pre-training images."""

import torch

from ..backbones.load import EMBEDDED
from ..backbones.preprocess import prepare_for
from ..backbones.stages import outputs
from ..common.errors import PeftlabError
from ..common.files import read_tensors


@torch.inference_mode()
def channel_statistics(vit, pixels):
    """Mean and standard deviation of what each block's attention reads, LN1(x), over patches and images -> [L, 2, D].

    pixels: uint8 [B, H, W, 3].
    """
    tokens = outputs(vit, [block.norm1 for block in vit.blocks], prepare_for(vit, pixels))
    flat = [t[:, -vit.patch_embed.num_patches :].flatten(0, 1) for t in tokens]
    return torch.stack([torch.stack([t.mean(0), t.std(0)]) for t in flat]).cpu()


def reference_statistics(name="peftlab_vit_mini"):
    """`channel_statistics` of an embedded backbone on images of its pre-training, [L, 2, D].

    Raises PeftlabError for other backbones: nobody has their pre-training images at hand.
    """
    if name not in EMBEDDED:
        raise PeftlabError(f"no statistics of {name} on its pre-training images; give channel_statistics of others")
    return read_tensors(EMBEDDED[name].with_name(f"{name}_statistics.safetensors"))[0]["statistics"]


def distance(statistics, reference):
    """Root mean square over channels of the 2-Wasserstein distance of Gaussians, in the reference's units -> [L]."""
    (mean, std), (mean0, std0) = statistics.unbind(1), reference.unbind(1)
    return (((mean - mean0) ** 2 + (std - std0) ** 2) / std0**2).mean(1).sqrt()
