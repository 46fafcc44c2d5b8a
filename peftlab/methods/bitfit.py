"""BitFit: only biases are trained.

Idea: shift activations, never rotate or scale them.
Equation: y = W x + (b + db), for the biases b of the chosen layers.
Shapes: per block 3D (qkv), D (o), H (fc1), D (fc2) and 2D (two LayerNorms), H the hidden width of the MLP.
Parameters: L (7D + H) + 2D with the patch embedding and the final LayerNorm; ViT-B/16: 102,912.
Targets: by default all of these. Some re-implementations leave out LayerNorms and the patch embedding, which is
targets=("qkv", "o", "fc1", "fc2") here; ViT-B/16: 82,944.
Start: the pre-trained biases. Merging: biases stay biases, nothing to do.
Source: Ben Zaken et al. 2022, arXiv 2106.10199 (for BERT); on ViTs known as "Bias".
"""

from dataclasses import dataclass
from typing import Any

from ..backbones.types import ViT
from .core.base import Method, check_targets, option, register, unfreeze
from .core.layers import LINEARS
from .norm import norm_layers, token_widths

TARGETS = ("patch", "norm", *LINEARS)


@register("bitfit")
@dataclass(frozen=True)
class BitFit(Method):
    targets: tuple[str, ...] = option(TARGETS, "whose biases: patch, norm, qkv, o, fc1, fc2")

    title = "BitFit"
    idea = "train all biases"
    family = "selective"
    source = "Ben Zaken et al. 2022"
    lr = 5e-3

    def layers(self, vit: ViT) -> list[Any]:
        """The layers whose biases are trained, as far as they have one."""
        check_targets(self.targets, TARGETS)
        paths = [LINEARS[t] for t in self.targets if t in LINEARS]
        layers = [block.get_submodule(path) for block in self.blocks(vit, *paths) for path in paths]
        if "norm" in self.targets:
            layers += norm_layers(self.trunk(vit), token_widths(vit))
        if "patch" in self.targets and self.last_blocks is None:
            layers.append(vit.patch_embed.proj)
        return [layer for layer in layers if getattr(layer, "bias", None) is not None]

    def apply(self, vit: ViT) -> None:
        for layer in self.layers(vit):
            unfreeze(layer, "bias")

    def count(self, backbone: ViT) -> int:
        return sum(len(layer.bias) for layer in self.layers(backbone))
