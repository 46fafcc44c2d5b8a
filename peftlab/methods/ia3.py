"""IA3: keys, values and hidden activations are rescaled, channel by channel.

Idea: amplify or inhibit what is already computed; no new directions, only new weights for old ones.
Equation: k <- l_k * k, v <- l_v * v, MLP(x) = W_2 (l_ff * act(W_1 x)), with * element by element.
Shapes: l_k, l_v in R^D, l_ff in R^H for the hidden width H of the MLP; targets "q" and "o" (R^D, on the output of the
projection) can be asked for, too.
Parameters: L (2D + H); ViT-B/16: 55,296.
Start: all ones, so exactly the frozen backbone.
Merging: rows of the qkv weight and bias times l_k, l_v; columns of fc2 times l_ff.
Source: Liu et al. 2022, arXiv 2205.05638 (for T5); that it acts on the input of fc2 follows from its equation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..backbones.types import ViT
from .core.base import Method, check_targets, option, register
from .core.layers import QKV, After, Before, width

TARGETS = (*QKV, "o", "ff")


class Scale(nn.Module):
    """x [.., width] -> l * x. Channels are divided evenly among `parts`; those not in `trained` keep a factor of 1."""

    def __init__(self, width: int, parts: Sequence[str], trained: Sequence[str]) -> None:
        super().__init__()
        self.parts, self.width = parts, width // len(parts)
        self.l = nn.ParameterDict({part: torch.ones(self.width) for part in trained})

    def vector(self) -> Float[Tensor, " width"]:
        ones = next(self.parameters()).new_ones(self.width)
        return torch.cat([self.l[part] if part in self.l else ones for part in self.parts])

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        return (self.vector() * x).to(x.dtype)  # under autocast, what follows stays in bf16


@register("ia3")
@dataclass(frozen=True)
class IA3(Method):
    targets: tuple[str, ...] = option(("k", "v", "ff"), "rescaled activations, among q, k, v, o, ff")

    title = "(IA)³"
    idea = "rescale keys, values and hidden activations"
    family = "reparametrised"
    source = "Liu et al. 2022"
    lr = 5e-3

    def apply(self, vit: ViT) -> None:
        check_targets(self.targets, TARGETS)
        trained = [t for t in QKV if t in self.targets]
        for block in self.blocks(vit, "attn.qkv", "attn.proj", "mlp.fc2"):
            if trained:
                block.attn.qkv = After(block.attn.qkv, Scale(block.attn.qkv.out_features, QKV, trained))
            if "o" in self.targets:
                block.attn.proj = After(block.attn.proj, Scale(block.attn.proj.out_features, ("o",), ("o",)))
            if "ff" in self.targets:
                block.mlp.fc2 = Before(block.mlp.fc2, Scale(block.mlp.fc2.in_features, ("ff",), ("ff",)))

    def count(self, backbone: ViT) -> int:
        blocks = self.blocks(backbone, "mlp.fc2")
        return sum(block.mlp.fc2.in_features if t == "ff" else width(block) for block in blocks for t in self.targets)

    def merge(self, vit: ViT) -> None:
        for block in self.blocks(vit):
            for attn, name in ((block.attn, "qkv"), (block.attn, "proj")):
                layer = getattr(attn, name)
                if isinstance(layer, After):
                    layer.base.weight *= layer.after.vector()[:, None]
                    if layer.base.bias is not None:
                        layer.base.bias *= layer.after.vector()
                    setattr(attn, name, layer.base)
            if isinstance(block.mlp.fc2, Before):
                block.mlp.fc2.base.weight *= block.mlp.fc2.before.vector()
                block.mlp.fc2 = block.mlp.fc2.base
