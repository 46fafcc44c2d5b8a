"""A ViT as a list of stages, and what its modules give on the way: the only place that knows timm's forward pass."""

from collections.abc import Callable
from typing import NamedTuple


class Stage(NamedTuple):
    """One step of a ViT's forward pass and the parameters it reads."""

    name: str
    run: Callable
    parameters: list


def stages(vit):
    """A ViT as the ordered list embed, block 0 .. block L-1, pool, head; composed they equal vit(x).

    embed: [B, 3, H, W] -> tokens [B, N, D]; blocks keep that shape; pool -> [B, D]; head -> logits [B, classes].
    """
    later = [*vit.blocks, vit.norm, vit.fc_norm, vit.head] + ([vit.attn_pool] if vit.attn_pool is not None else [])
    taken = {id(p) for module in later for p in module.parameters()}
    embed = [p for p in vit.parameters() if id(p) not in taken]
    pool = [p for module in later[len(vit.blocks) :] if module is not vit.head for p in module.parameters()]
    return [
        Stage("embed", lambda x: vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(x)))), embed),
        *(Stage(f"block {i}", block, list(block.parameters())) for i, block in enumerate(vit.blocks)),
        Stage("pool", lambda x: vit.forward_head(vit.norm(x), pre_logits=True), pool),
        Stage("head", vit.head, list(vit.head.parameters())),
    ]


def run_stages(vit, x, start=0, stop=None):
    """The part of the forward pass between two indices of `stages(vit)`."""
    for stage in stages(vit)[start:stop]:
        x = stage.run(x)
    return x


def outputs(vit, modules, x):
    """What some modules of a ViT give in one forward pass of images x [B, 3, H, W] -> list, in the order they ran.

    Before other hooks change it, as those that take a method's tokens away do. The hooks are removed in any case.
    """
    seen = []
    hooks = [m.register_forward_hook(lambda m, args, out: seen.append(out), prepend=True) for m in modules]
    try:
        vit.forward_features(x)
    finally:
        for hook in hooks:
            hook.remove()
    return seen
