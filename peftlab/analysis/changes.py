"""What training changed, where gradients flow, and where in a block a trained tensor acts."""

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from ..training.evaluate import first_images

ROLES = ("before", "after", "shared", "channels", "prompts", "gist")


def place_of(name, block):
    """('attn.qkv', 'tuned') for a trained parameter of a tuned block by its name and the plain block.

    The place is the deepest module of the plain block that the name leads through. The role is 'tuned' for a parameter
    of the plain block itself, else how a new one acts: 'before', 'after', 'beside', 'shared', on the residual
    stream 'channels', or as a token 'prompts' or 'gist'.
    """
    module, place, parts = block, [], name.split(".")
    while parts[0] == "base" or parts[0] in dict(module.named_children()):
        part = parts.pop(0)
        if part != "base":
            module = getattr(module, part)
            place.append(part)
    if parts[0] in dict(module.named_parameters(recurse=False)):
        return ".".join(place), "tuned"
    return ".".join(place), parts[0] if parts[0] in ROLES else "beside"


def block_changes(model, block=-1):
    """{(place, role): names of trained parameters} for one block of a tuned model; see `place_of`."""
    found = {}
    plain, tuned = model.backbone.blocks[block], model.vit.blocks[block]
    for name, module in tuned.named_modules():
        if isinstance(getattr(module, "shared", None), tuple):  # it works with parameters that stand in another block
            found[place_of(f"{name}.", plain)[0], "beside"] = []
    for name, p in tuned.named_parameters():
        if p.requires_grad:
            found.setdefault(place_of(name, plain), []).append(name)
    return found


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
