"""From the pixels of an image to what a ViT reads: input size, normalisation."""

import torch

from .protocols import NORMALISATIONS, Preprocessing


def prepare(pixels, vit, preprocessing, device):
    """uint8 [B, H, W, 3] -> normalised float [B, 3, H, W] on the device."""
    mean, std = (t.to(device) for t in normalisation(vit, preprocessing.normalisation))
    return (pixels.to(device).permute(0, 3, 1, 2).float() / 255 - mean) / std


def prepare_for(vit, pixels):
    """uint8 [B, h, w, 3] as this ViT was pre-trained to read them -> [B, 3, H, W] on its device."""
    return prepare(pixels, vit, Preprocessing(), next(vit.parameters()).device)


def input_size(vit):
    """(height, width) in pixels."""
    return tuple(vit.patch_embed.img_size)


def normalisation(vit, kind="backbone"):
    """(mean, std), each [3, 1, 1], for a kind of protocols.NORMALISATIONS or the backbone's own."""
    mean, std = (vit.pretrained_cfg["mean"], vit.pretrained_cfg["std"]) if kind == "backbone" else NORMALISATIONS[kind]
    return torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
