"""What training changed, and where gradients flow."""

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from ..prediction import first_images
from .block import place_of
from .style import SEQUENTIAL, axes_or_new

PLACES = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")


@torch.no_grad()
def weight_change(model):
    """Relative change of each block's layers, ||W' - W|| / ||W|| over weight and bias together -> DataFrame [L, 6]."""
    before, after = model.backbone, model.merge()
    out = np.zeros((len(before.blocks), len(PLACES)))
    for i, (old, new) in enumerate(zip(before.blocks, after.blocks, strict=True)):
        for j, place in enumerate(PLACES):
            was = torch.cat([p.flatten() for p in old.get_submodule(place).parameters()])
            now = torch.cat([p.flatten() for p in new.get_submodule(place).parameters()])
            out[i, j] = (now.to(was.device) - was).norm() / was.norm()
    return pd.DataFrame(out, index=range(1, len(out) + 1), columns=PLACES)


def change_map(model, ax=None, highest=None):
    """Heatmap of `weight_change`: blocks down, layers across; untouched layers stay blank -> Axes."""
    return _map(100 * weight_change(model), f"{model.method.title}: relative change", "%", ax, highest)


def gradient_flow(model, task, images=32):
    """Norm of the loss gradient in each block, by the layer where a trained tensor acts -> DataFrame [L, layers].

    One batch of the first images. New modules count for the layer that they stand around.
    """
    vit, x = model.vit, first_images(task, model.vit, images)
    loss = F.cross_entropy(model(x), torch.from_numpy(task.labels("train800")[:images]).to(x.device))
    trained = [p for p in model.parameters() if p.requires_grad]
    gradient = dict(zip(map(id, trained), torch.autograd.grad(loss, trained), strict=True))
    rows = []
    for plain, tuned in zip(model.backbone.blocks, vit.blocks, strict=True):
        square = dict.fromkeys(PLACES, 0.0)
        for name, p in tuned.named_parameters():
            if p.requires_grad:
                place, role = place_of(name, plain)
                place = place or ("shared" if role == "shared" else "tokens")
                square[place] = square.get(place, 0.0) + gradient[id(p)].norm().item() ** 2
        rows.append({place: value**0.5 for place, value in square.items()})
    return pd.DataFrame(rows, index=range(1, len(rows) + 1)).fillna(0.0)


def gradient_map(model, task, ax=None, highest=None):
    """Heatmap of `gradient_flow` -> Axes."""
    return _map(gradient_flow(model, task), f"{model.method.title}: gradient norm", "", ax, highest)


def _map(values, title, unit, ax, highest):
    ax = axes_or_new(ax, (4.6, 3))
    shown = np.ma.masked_equal(values.to_numpy(), 0)
    ax.set_facecolor("0.93")
    image = ax.imshow(shown, cmap=SEQUENTIAL, vmin=0, vmax=highest, aspect="auto")
    ax.set_xticks(range(values.shape[1]), [place.split(".")[-1] for place in values], fontsize=8)
    ax.set_yticks(range(len(values)), values.index, fontsize=8)
    ax.set(ylabel="block", title=title)
    ax.title.set_fontsize(10)
    if not shown.mask.all():
        ax.figure.colorbar(image, ax=ax, label=unit, shrink=0.8)
    return ax
