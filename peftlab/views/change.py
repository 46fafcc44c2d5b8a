"""What training changed, and where gradients flow."""

import numpy as np
import torch
import torch.nn.functional as F

from ..backbones import input_size
from ..protocols import Preprocessing
from ..training import prepare
from .style import SEQUENTIAL, axes_or_new

PLACES = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")


@torch.no_grad()
def weight_change(model):
    """Relative change of each block's layers, ||W' - W|| / ||W|| over weight and bias together -> array [L, 6]."""
    before, after = model.backbone, model.merge()
    out = np.zeros((len(before.blocks), len(PLACES)))
    for i, (old, new) in enumerate(zip(before.blocks, after.blocks, strict=True)):
        for j, place in enumerate(PLACES):
            was = torch.cat([p.flatten() for p in old.get_submodule(place).parameters()])
            now = torch.cat([p.flatten() for p in new.get_submodule(place).parameters()])
            out[i, j] = (now.to(was.device) - was).norm() / was.norm()
    return out


def change_map(model, ax=None, highest=None):
    """Heatmap of `weight_change`: blocks down, layers across; untouched layers stay blank -> Axes."""
    return _map(100 * weight_change(model), f"{model.method.title}: relative change", "%", ax, highest)


def gradient_flow(model, task, images=32):
    """Norm of the loss gradient at each block's layers for one batch -> array [L, 6]; 0 where nothing is trained."""
    vit = model.vit
    device = next(vit.parameters()).device
    x = prepare(task.pixels("train800", input_size(vit), range(images)), vit, Preprocessing(), device)
    loss = F.cross_entropy(model(x), torch.from_numpy(task.labels("train800")[:images]).to(device))
    trained = [p for p in model.parameters() if p.requires_grad]
    size = {id(p): g.norm().item() for p, g in zip(trained, torch.autograd.grad(loss, trained), strict=True)}
    norms = [
        [sum(size.get(id(p), 0) ** 2 for p in block.get_submodule(place).parameters()) ** 0.5 for place in PLACES]
        for block in vit.blocks
    ]
    return np.array(norms)


def gradient_map(model, task, ax=None, highest=None):
    """Heatmap of `gradient_flow` -> Axes."""
    return _map(gradient_flow(model, task), f"{model.method.title}: gradient norm", "", ax, highest)


def _map(values, title, unit, ax, highest):
    ax = axes_or_new(ax, (4.6, 3))
    shown = np.ma.masked_equal(values, 0)
    ax.set_facecolor("0.93")
    image = ax.imshow(shown, cmap=SEQUENTIAL, vmin=0, vmax=highest, aspect="auto")
    ax.set_xticks(range(len(PLACES)), [p.split(".")[-1] for p in PLACES], fontsize=8)
    ax.set_yticks(range(len(values)), range(1, len(values) + 1), fontsize=8)
    ax.set(ylabel="block", title=title)
    ax.title.set_fontsize(10)
    if not shown.mask.all():
        ax.figure.colorbar(image, ax=ax, label=unit, shrink=0.8)
    return ax
