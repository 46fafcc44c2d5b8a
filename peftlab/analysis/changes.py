"""What training changed, where gradients flow, and where in a block a trained tensor acts."""

from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from ..backbones.identity import as_vit
from ..backbones.types import ViT
from ..methods.core.model import PeftModel
from ..methods.norm import norm_layers, token_widths
from ..tasks.task import Task
from ..training.evaluate import first_images

ROLES = ("before", "after", "parallel", "shared", "channels", "prompts", "gist")
LAYERS = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
# The parts of a ViT with norms in the order of its forward pass; some models hold their blocks last.
PARTS = ("patch_embed", "norm_pre", "blocks", "norm", "attn_pool", "fc_norm")


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
    before, after = model.backbone, as_vit(model.merge())
    out = np.zeros((len(before.blocks), len(LAYERS)))
    for i, (old, new) in enumerate(zip(before.blocks, after.blocks, strict=True)):
        for j, path in enumerate(LAYERS):
            was = torch.cat([p.flatten() for p in old.get_submodule(path).parameters()])
            now = torch.cat([p.flatten() for p in new.get_submodule(path).parameters()])
            out[i, j] = (now.to(was.device) - was).norm() / was.norm()
    return pd.DataFrame(out, index=range(1, len(out) + 1), columns=list(LAYERS))


def named_norms(vit: ViT) -> dict[str, Any]:
    """{name of its module: norm} of a plain ViT, of all that read whole tokens, in the order of the forward pass."""
    names = {module: name for name, module in vit.named_modules()}
    parts = [part for part in (getattr(vit, name) for name in PARTS) if part is not None]
    return {names[norm]: norm for norm in norm_layers(parts, token_widths(vit))}


def norm_label(name: str) -> str:
    """What tables and pictures call a norm.

    >>> [norm_label(name) for name in ("norm_pre", "blocks.2.norm1", "blocks.2.norm2", "fc_norm")]
    ['norm_pre', '3.1', '3.2', 'final']
    """
    part, _, inside = name.partition(".")
    if part == "blocks":
        block, _, path = inside.partition(".")
        return f"{int(block) + 1}.{path.removeprefix('norm')}"
    return "final" if name in ("norm", "fc_norm") else name


def norm_change(model: PeftModel) -> pd.DataFrame:
    """Relative change of each LayerNorm, ||after - before|| / ||before||; a row a norm, columns gamma and beta.

    "3.1" is the first norm of block 3, "3.2" its second, "final" the last one; others have the name of their module.
    Of a beta that was 0 or is not there (RMSNorm) there is no relative change: nan, or inf.
    """
    rows = {}
    for name, old in named_norms(model.backbone).items():
        new: Any = model.vit.get_submodule(name)
        new = getattr(new, "base", new)  # within what a method has put around it
        pairs = {"gamma": (old.weight, new.weight), "beta": (getattr(old, "bias", None), getattr(new, "bias", None))}
        rows[norm_label(name)] = {
            k: float("nan") if a is None else ((b.cpu() - a.cpu()).norm() / a.norm().cpu()).item()
            for k, (a, b) in pairs.items()
        }
    return pd.DataFrame.from_dict(rows, orient="index")


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
