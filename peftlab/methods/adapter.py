"""Adapter: a small bottleneck network is put in line behind sub-layers.

Idea: leave every weight alone and learn a correction of a sub-layer's output, before it joins the residual stream.
Equation: y <- y + W_up act(W_down y + b_down) + b_up, with act = GELU.
Shapes: y [B, N, D]; W_down [h, D], W_up [D, h] for the bottleneck h.
Placement: "houlsby" puts one behind the attention and one behind the MLP of each block, "pfeiffer" only the latter.
Parameters: L (2 D h + h + D) for each adapter of a block; ViT-B/16, h = 8: pfeiffer 156,768, houlsby 313,536.
Start: W_up and both biases 0, so exactly the frozen backbone (our choice; Houlsby et al. start near it).
Merging: impossible, there is a nonlinearity between the two matrices.
Source: Houlsby et al. 2019, arXiv 1902.00751; Pfeiffer et al. 2021, arXiv 2005.00247. Both are about BERT, whose
LayerNorms stand elsewhere; that the adapter comes before the residual sum is what we keep.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from ..backbones.types import ViT
from .core.base import Method, check_size, option, register
from .core.layers import NOT_LINEAR, After, Bottleneck, bottleneck_size, width

PLACEMENTS = {"houlsby": ("attn.proj", "mlp"), "pfeiffer": ("mlp",)}


class Correction(Bottleneck):
    """y -> y + bottleneck(y)."""

    def forward(self, y: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        return y + super().forward(y)


@register("adapter")
@dataclass(frozen=True)
class Adapter(Method):
    bottleneck: int = option(8, "h, inner width of the adapter", at_least=1)
    placement: str = option("houlsby", "behind attention and MLP, or behind the MLP alone", PLACEMENTS)

    title = "Adapter"
    idea = "put small bottleneck networks behind attention and MLP"
    family = "additive"
    source = "Houlsby et al. 2019, Pfeiffer et al. 2021"
    lr = 2e-3
    not_mergeable = NOT_LINEAR

    def paths(self) -> tuple[str, ...]:
        return PLACEMENTS[self.placement]

    def apply(self, vit: ViT) -> None:
        check_size("bottleneck", self.bottleneck, vit.embed_dim)
        for block in self.blocks(vit, *self.paths()):
            for path in self.paths():
                correction = Correction(width(block), self.bottleneck, nn.GELU())
                block.set_submodule(path, After(block.get_submodule(path), correction))

    def count(self, backbone: ViT) -> int:
        return len(self.paths()) * sum(bottleneck_size(block, self.bottleneck) for block in self.blocks(backbone))
