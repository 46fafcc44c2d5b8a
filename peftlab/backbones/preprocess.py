"""From the pixels of an image to what a ViT reads: input size, normalisation."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..common.errors import PeftlabError
from .protocols import NORMALISATIONS, Preprocessing
from .types import Images, Merged, Pixels


def prepare(pixels: Pixels, vit: Merged, preprocessing: Preprocessing, device: torch.device) -> Images:
    """Pixels 0 to 255 -> normalised images on the device."""
    mean, std = (t.to(device) for t in normalisation(vit, preprocessing.normalisation))
    return (pixels.to(device).permute(0, 3, 1, 2).float() / 255 - mean) / std


def prepare_for(vit: Merged, pixels: Pixels) -> Images:
    """Pixels 0 to 255 -> images as this ViT was pre-trained to read them, on its device."""
    return prepare(pixels, vit, Preprocessing(), next(vit.parameters()).device)


def input_size(vit: Merged) -> tuple[int, int]:
    """(height, width) in pixels."""
    return tuple(vit.patch_embed.img_size)


def normalisation(vit: Merged, kind: str = "backbone") -> tuple[Float[Tensor, "3 1 1"], Float[Tensor, "3 1 1"]]:
    """(mean, std) of the channels, for a kind of protocols.NORMALISATIONS or the backbone's own.

    Raises PeftlabError where the backbone does not say.

    >>> from peftlab.backbones.load import load_backbone
    >>> vit = load_backbone("test_vit", pretrained=False)
    >>> mean, std = normalisation(vit, "half")
    >>> [((value - mean) / std).flatten().tolist() for value in (0, 1)]  # black, white
    [[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]
    """
    if kind != "backbone":
        mean, std = NORMALISATIONS[kind]
    else:
        known = getattr(vit, "pretrained_cfg", None) or {}
        if not {"mean", "std"} <= known.keys():
            raise PeftlabError(
                "this ViT does not say how its images are normalised; set vit.pretrained_cfg = {'mean': (r, g, b), "
                "'std': (r, g, b)}, or load it with peftlab.load_backbone"
            )
        mean, std = known["mean"], known["std"]
    return torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
