"""What a ViT computes of one photograph, from the patches to the answer, each step of every block kept."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ...analysis.attention import all_attention_maps, attention_layer
from ...backbones.preprocess import prepare_for
from ...backbones.stages import outputs, run_stages
from ...backbones.types import Pixels
from ...common.errors import PeftlabError
from ...methods.core.model import PeftModel


class Inside(NamedTuple):
    """What a model computes of one photograph, on the CPU.

    embedded: tokens without their places, what is added for these, the sum. stream: a token before each block, what
    attention and MLP add to it, and the sum. attention: mean over heads. features: what the head reads.
    """

    embedded: Float[Tensor, "3 tokens width"]
    qkv: Float[Tensor, "blocks tokens 3 heads channels"]
    attention: Float[Tensor, "blocks tokens tokens"]
    stream: Float[Tensor, "blocks tokens 4 width"]
    features: Float[Tensor, " width"]
    probabilities: Float[Tensor, " classes"]


def class_names(model: PeftModel) -> list[str]:
    """The classes of a model's head; numbered where they have no names."""
    return list(model.classes or [f"class {i}" for i in range(model.num_classes)])


@torch.inference_mode()
def follow(name: str, model: PeftModel, pixels: Pixels) -> Inside:
    """What a model computes of one photograph.

    Raises PeftlabError with its name where a method puts tokens into the sequence, or changes the residual stream
    otherwise than through attention and MLP: the walk has no step for that.
    """
    vit, x = model.vit, prepare_for(model.vit, pixels)
    if not all(hasattr(block, "ls1") for block in vit.blocks):
        raise PeftlabError(f"{name} has blocks of {type(vit.blocks[0]).__name__}, the walk goes through timm's Block")
    layers = [attention_layer(block) for block in vit.blocks]
    parts = [
        m for block, attn in zip(vit.blocks, layers, strict=True) for m in (attn.qkv, block.ls1, block.ls2, block)
    ]
    tokens, *rest = (seen[0].cpu() for seen in outputs(vit, [vit.patch_drop, *parts], x))
    qkv, attended, mlp, after = (rest[i::4] for i in range(4))
    if len(qkv[0]) != len(tokens):
        raise PeftlabError(
            f"{name} puts {len(qkv[0]) - len(tokens)} tokens into its blocks, which the walk has no step for"
        )
    learned = [t[0].cpu() for t in (vit.cls_token, getattr(vit, "reg_token", None)) if t is not None]
    patches = vit.patch_embed(x)[0].flatten(0, -2).cpu()  # some ViTs keep the grid of patches until here
    bare = torch.cat([*learned, patches])
    before = torch.stack([vit.norm_pre(tokens), *after[:-1]])
    stream = torch.stack([before, torch.stack(attended), torch.stack(mlp), torch.stack(after)], dim=-2)
    if not torch.allclose(stream[..., :3, :].sum(-2), stream[..., 3, :], atol=1e-3):
        raise PeftlabError(
            f"{name} changes the residual stream outside attention and MLP, which the walk has no step for"
        )
    return Inside(
        embedded=torch.stack([bare, tokens - bare, tokens]),
        qkv=torch.stack(qkv).unflatten(-1, (3, layers[0].num_heads, -1)),
        attention=torch.cat(all_attention_maps(vit, x)).mean(1).cpu(),
        stream=stream,
        features=run_stages(vit, x, stop=-1)[0].cpu(),
        probabilities=model(x).softmax(-1)[0].cpu(),
    )
