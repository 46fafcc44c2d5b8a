"""A ViT as a list of stages, and what its modules give on the way: the only place that knows timm's forward pass."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from .types import Images, ViT


class Stage(NamedTuple):
    """One step of a ViT's forward pass and the parameters it reads."""

    name: str
    run: Callable[[Tensor], Tensor]
    parameters: list[nn.Parameter]


def stages(vit: ViT) -> list[Stage]:
    """A ViT as the ordered list embed, block 0 .. block L-1, pool, head; composed they equal vit(x).

    embed: images [batch 3 height width] -> tokens [batch tokens width]; blocks keep that shape; pool -> [batch width];
    head -> logits [batch classes].

    >>> from peftlab.backbones.load import load_backbone
    >>> [stage.name for stage in stages(load_backbone())]
    ['embed', 'block 0', 'block 1', 'block 2', 'block 3', 'block 4', 'block 5', 'pool', 'head']
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


def run_stages(
    vit: ViT, x: Float[Tensor, "batch ..."], start: int = 0, stop: int | None = None
) -> Float[Tensor, "batch ..."]:
    """The part of the forward pass between two indices of `stages(vit)`.

    >>> import torch
    >>> from peftlab.backbones.load import load_backbone
    >>> vit, x = load_backbone(), torch.zeros(2, 3, 64, 64)
    >>> for stop in (1, 7, 8):  # tokens: CLS and 8 x 8 patches
    ...     print(tuple(run_stages(vit, x, stop=stop).shape))
    (2, 65, 192)
    (2, 65, 192)
    (2, 192)
    """
    for stage in stages(vit)[start:stop]:
        x = stage.run(x)
    return x


def outputs(vit: ViT, modules: Iterable[nn.Module], x: Images) -> list[Float[Tensor, "batch _tokens _width"]]:
    """What some modules of a ViT give in one forward pass of images -> list, in the order they ran.

    Before other hooks change it, as those that take a method's tokens away do. The hooks are removed in any case.
    """
    seen: list[Tensor] = []
    hooks = [m.register_forward_hook(lambda m, args, out: seen.append(out), prepend=True) for m in modules]
    try:
        vit.forward_features(x)
    finally:
        for hook in hooks:
            hook.remove()
    return seen
