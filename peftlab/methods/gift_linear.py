"""GIFT, linear form (v2): the change of each weight is generated from that weight by one shared pair of matrices.

Idea: do not learn a change for every layer; learn once, for all layers, how to make the change out of the weight.
Equation: W+ = W (I + phi psi), so y = W x + b + (W phi) (psi x): every output row of W is one token that is reduced
by phi to `rank` numbers and recovered by psi to a row of the change.
Shapes: W [d_out, d_in], phi [d_in, rank], psi [rank, d_in]; W phi [d_out, rank], one for each layer.
As an activation: W (x + phi psi x) + b, a linear adapter on the input of W, the same in all layers.
Parameters: 2 d_in rank for each target, whatever the depth; ViT-B/16, rank 16: 24,576.
Start: phi as torch's Linear, psi = 0, so exactly the frozen backbone.
Merging: W + W phi psi is again one matrix. (The released code does not merge; the algebra allows it.)
Source: Savadikar et al. 2024, arXiv 2312.00700v2 and later, and its released code (github.com/savadikarc/gift), which
changes the output projection of attention; qkv, fc1 and fc2 are offered, too, each with matrices of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..backbones.types import ViT
from .core.base import Method, check_size, check_targets, option, register
from .core.layers import LINEARS


class Generator(nn.Module):
    """Makes the changes of all its layers out of their weights, once for each forward pass of the model.

    layers: the GeneratedLinears that it serves, first to last. tokens [L, d_out, rank]: of the current pass; the
    change of layer l is tokens[l] @ psi.
    """

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(width, rank, bias=False)  # phi
        self.recover = nn.Linear(rank, width, bias=False)  # psi
        nn.init.zeros_(self.recover.weight)
        self.layers: tuple[GeneratedLinear, ...] = ()
        self.tokens: Any = None  # a Tensor while a pass goes on

    def forward(self, weights: Sequence[Float[Tensor, "rows width"]]) -> Float[Tensor, "layers rows rank"]:
        """Weights, L of [d_out, d_in] -> tokens [L, d_out, rank]. Layers never see one another: L is a batch axis."""
        return torch.stack([self.reduce(weight) for weight in weights])

    def clusters(self, weights: Sequence[Float[Tensor, "rows width"]]) -> Float[Tensor, "layers rows clusters"]:
        """How strongly each output row belongs to each cluster, [L, d_out, M]; here its reduced tokens, M = rank."""
        return self(weights)

    def weights(self) -> list[Float[Tensor, "rows width"]]:
        """The frozen weights of all layers, L of [d_out, d_in]."""
        return [layer.base.weight for layer in self.layers]

    def refresh(self) -> None:
        """Generate anew, in full precision: the released code does so under mixed precision, too."""
        weights = self.weights()
        with torch.autocast(weights[0].device.type, enabled=False):
            self.tokens = self(weights)

    def deltas(self) -> Float[Tensor, "layers rows width"]:
        """The changes of all layers, [L, d_out, d_in]."""
        return self.recover(self(self.weights()))

    def __getstate__(self) -> dict[str, Any]:  # a copy of the model takes no activations with it
        return self.__dict__ | {"tokens": None}


class GeneratedLinear(nn.Module):
    """A frozen Linear plus its generated change, applied as two thin products: the change itself is never formed."""

    def __init__(self, base: nn.Linear, generator: Generator, index: int) -> None:
        super().__init__()
        self.base, self.index = base, index
        self.shared = (generator,)  # in a tuple: registered once, in the first changed block

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch rows"]:
        generator = self.shared[0]
        if self.index == 0:  # the first layer of a pass makes the tokens of all
            generator.refresh()
        flat = x.flatten(0, -2)
        y = torch.addmm(self.base(flat), flat @ generator.recover.weight, generator.tokens[self.index].T)
        return y.unflatten(0, x.shape[:-1])


@register("gift_linear")
@dataclass(frozen=True)
class GiftLinear(Method):
    rank: int = option(16, "numbers that each row of a weight is reduced to", at_least=1)
    targets: tuple[str, ...] = option(("o",), "changed weights, among qkv, o, fc1, fc2; a generator for each")

    title = "GIFT (linear)"
    idea = "generate all weight changes from the weights by one shared pair of matrices"
    family = "reparametrised"
    source = "Savadikar et al. 2024"
    not_on_windows = "one generator makes the changes of all layers, which must have one shape"
    lr = 5e-3

    def generator(self, linear: nn.Linear) -> Generator:
        """A fresh Generator for layers shaped like this one."""
        return Generator(linear.in_features, self.rank)

    def layers(self, vit: ViT) -> dict[str, list[Any]]:
        """{target: its layers, first to last}."""
        check_targets(self.targets, LINEARS)
        blocks = self.blocks(vit, *(LINEARS[t] for t in self.targets))
        return {t: [block.get_submodule(LINEARS[t]) for block in blocks] for t in self.targets}

    def apply(self, vit: ViT) -> None:
        check_size("rank", self.rank, vit.embed_dim)
        layers, blocks = self.layers(vit), self.blocks(vit)
        blocks[0].shared = nn.ModuleDict({f"generator_{t}": self.generator(layers[t][0]) for t in self.targets})
        for target, generator in zip(self.targets, blocks[0].shared.values(), strict=True):
            generator.layers = tuple(GeneratedLinear(base, generator, i) for i, base in enumerate(layers[target]))
            for block, layer in zip(blocks, generator.layers, strict=True):
                block.set_submodule(LINEARS[target], layer)

    def count(self, backbone: ViT) -> int:
        return sum(2 * layers[0].in_features * self.rank for layers in self.layers(backbone).values())

    def merge(self, vit: ViT) -> None:
        blocks = self.blocks(vit)
        for target, generator in zip(self.targets, blocks[0].shared.values(), strict=True):
            for block, layer, delta in zip(blocks, generator.layers, generator.deltas(), strict=True):
                layer.base.weight += delta
                block.set_submodule(LINEARS[target], layer.base)
        del blocks[0].shared
