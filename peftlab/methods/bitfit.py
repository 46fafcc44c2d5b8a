"""BitFit: only the biases are trained.

Idea: shift activations, never rotate or scale them.
Equation: y = W x + (b + db), for every bias b of the linear layers, LayerNorms and the patch embedding.
Shapes: per block 3D (qkv), D (proj), H (fc1), D (fc2) and 2D (two LayerNorms).
Parameters: L (7D + H) + 2D for a block hidden width H; ViT-B/16: 102,912.
Start: the pre-trained biases. Merging: biases stay biases, nothing to do.
Source: Ben Zaken et al. 2022, arXiv 2106.10199 (for BERT); on ViTs known as "Bias".
Differs from some re-implementations, which leave out the LayerNorm and patch-embedding biases (82,944).
"""

from dataclasses import dataclass

from torch import nn

from .base import Method, register, unfreeze
from .norm import norm_layers


@register("bitfit")
@dataclass(frozen=True)
class BitFit(Method):
    title = "BitFit"
    idea = "train all biases"
    source = "Ben Zaken et al. 2022"
    lr = 5e-3

    def apply(self, vit):
        linears = [m for m in vit.blocks.modules() if isinstance(m, nn.Linear)]
        for module in [vit.patch_embed.proj, *linears, *norm_layers(vit)]:
            unfreeze(module, "bias")

    def count(self, vit):
        L, D, H = len(vit.blocks), vit.embed_dim, vit.blocks[0].mlp.fc1.out_features
        has_bias = [norm for norm in norm_layers(vit) if getattr(norm, "bias", None) is not None]
        return L * (3 * D + D + H + D) + D * (vit.patch_embed.proj.bias is not None) + D * len(has_bias)
