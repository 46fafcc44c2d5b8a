"""What training changed, where gradients flow, and where in a block a trained tensor acts."""

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from ..methods.core.model import PeftModel
from ..methods.norm import norm_layers
from ..tasks.task import Task
from ..training.evaluate import first_images

ROLES = ("before", "after", "parallel", "shared", "channels", "prompts", "gist")
LAYERS = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")


def path_and_role(name: str, block: nn.Module) -> tuple[str, str]:
    """Where a trained parameter of a tuned block acts, by its name and the plain block, and how.

    The path is that of the deepest module of the plain block that the name leads through. The role is 'tuned' for a
    parameter of the plain block itself, else how a new one acts: 'before', 'after' or 'parallel' to that module, on
    the residual stream ('channels'), as a token ('prompts', 'gist'), or in all blocks ('shared').

    >>> from timm.models.vision_transformer import Block
    >>> block = Block(dim=8, num_heads=2)
    >>> path_and_role("mlp.fc1.bias", block), path_and_role("mlp.parallel.down.weight", block)
    (('mlp.fc1', 'tuned'), ('mlp', 'parallel'))
    """
    module, path, parts = block, [], name.split(".")
    while parts[0] == "base" or parts[0] in dict(module.named_children()):
        part = parts.pop(0)
        if part != "base":
            module = getattr(module, part)
            path.append(part)
    if parts[0] in dict(module.named_parameters(recurse=False)):
        return ".".join(path), "tuned"
    return ".".join(path), parts[0] if parts[0] in ROLES else "parallel"


def block_changes(model: PeftModel, block: int = -1) -> dict[tuple[str, str], list[str]]:
    """{(path, role): names of trained parameters} for one block of a tuned model; see `path_and_role`."""
    found: dict[tuple[str, str], list[str]] = {}
    plain, tuned = model.backbone.blocks[block], model.vit.blocks[block]
    for name, module in tuned.named_modules():
        if isinstance(getattr(module, "shared", None), tuple):  # it works with parameters that stand in another block
            found[path_and_role(f"{name}.", plain)[0], "parallel"] = []
    for name, p in tuned.named_parameters():
        if p.requires_grad:
            found.setdefault(path_and_role(name, plain), []).append(name)
    return found


@torch.no_grad()
def weight_change(model: PeftModel) -> pd.DataFrame:
    """Relative change of each block's `LAYERS`, ||W' - W|| / ||W|| over weight and bias together; a row a block."""
    before, after = model.backbone, model.merge()
    out = np.zeros((len(before.blocks), len(LAYERS)))
    for i, (old, new) in enumerate(zip(before.blocks, after.blocks, strict=True)):
        for j, path in enumerate(LAYERS):
            was = torch.cat([p.flatten() for p in old.get_submodule(path).parameters()])
            now = torch.cat([p.flatten() for p in new.get_submodule(path).parameters()])
            out[i, j] = (now.to(was.device) - was).norm() / was.norm()
    return pd.DataFrame(out, index=range(1, len(out) + 1), columns=list(LAYERS))


def norm_change(model: PeftModel) -> pd.DataFrame:
    """Relative change of each LayerNorm, ||after - before|| / ||before||; a row a norm, columns gamma and beta.

    "3.1" is the first norm of block 3, "3.2" its second.
    """
    before, after = (norm_layers([vit], {vit.embed_dim}) for vit in (model.backbone, model.vit))
    rows = []
    for old, new in zip(before, after, strict=True):
        pairs = {"gamma": (old.weight, new.weight), "beta": (old.bias, new.bias)}
        rows.append({k: ((b.cpu() - a.cpu()).norm() / a.norm().cpu()).item() for k, (a, b) in pairs.items()})
    names = [f"{i // 2 + 1}.{i % 2 + 1}" for i in range(len(rows) - 1)]
    return pd.DataFrame(rows, index=[*names, "final"])


def gradient_flow(model: PeftModel, task: Task, images: int = 32) -> pd.DataFrame:
    """Norm of the loss gradient in each block, by the layer where a trained tensor acts; a row a block.

    One batch of the first images. New modules count for the layer that they stand around; columns 'shared' and
    'tokens' are added where there are such parameters.
    """
    vit, x = model.vit, first_images(task, model.vit, images)
    loss = F.cross_entropy(model(x), torch.from_numpy(task.labels("train800")[:images]).to(x.device))
    trained = [p for p in model.parameters() if p.requires_grad]
    gradient = dict(zip(map(id, trained), torch.autograd.grad(loss, trained), strict=True))
    rows = []
    for plain, tuned in zip(model.backbone.blocks, vit.blocks, strict=True):
        square = dict.fromkeys(LAYERS, 0.0)
        for name, p in tuned.named_parameters():
            if p.requires_grad:
                path, role = path_and_role(name, plain)
                column = path or ("shared" if role == "shared" else "tokens")
                square[column] = square.get(column, 0.0) + gradient[id(p)].norm().item() ** 2
        rows.append({column: value**0.5 for column, value in square.items()})
    return pd.DataFrame(rows, index=range(1, len(rows) + 1)).fillna(0.0)
