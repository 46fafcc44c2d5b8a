"""FacT: all weight changes of the network are one tensor, and its factors are shared by all layers.

Idea: the changes of different layers resemble one another, so factorise them together, not one by one as LoRA does.
Equation: cut all block weights into D x D pieces, n = L (4 + 2H/D) of them (q, k, v, o, and fc1 and fc2 in H/D pieces
each; 144 for ViT-B/16). The change of piece j is s V S_j U, with U and V shared by all pieces, and
    "tt" (tensor train): a core S_j of its own for each piece;
    "tk" (Tucker):       S_j = sum_t P_jt C_t, a mixture of r cores C_t shared by all, with r weights for each piece.
Shapes: U [r, D], V [D, r], S_j [r, r]; C [r, r, r], P [n, r].
Parameters: tt 2 D r + n r^2; tk 2 D r + r^3 + n r; ViT-B/16: tt r = 16 61,440, tk r = 32 86,528.
Start: V = 0, so exactly the frozen backbone; U and S as torch's Linear, C and P Xavier-uniform.
Merging: W + s V S U, piece by piece, is again one matrix.
Source: Jie & Deng 2023, arXiv 2212.03145. s is set per task there; s = 1 is our choice. No dropout in between.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..backbones.types import ViT
from ..common.errors import PeftlabError
from .core.base import Method, check_size, option, register
from .core.layers import LINEARS

FORMS = ("tt", "tk")


class Shared(nn.Module):
    """The factors that all layers share: U, V and, for "tk", C."""

    def __init__(self, width: int, rank: int, form: str) -> None:
        super().__init__()
        self.U = nn.Parameter(torch.empty(rank, width).uniform_(-1, 1) / math.sqrt(width))
        self.V = nn.Parameter(torch.zeros(width, rank))
        if form == "tk":
            self.C = nn.Parameter(nn.init.xavier_uniform_(torch.empty(rank, rank, rank)))


class FacTLinear(nn.Module):
    """A frozen Linear [o D, i D] plus o x i factorised pieces."""

    def __init__(self, base: nn.Linear, shared: Shared, pieces: int, form: str, scale: float) -> None:
        super().__init__()
        self.base, self.scale = base, scale
        self.shared = (shared,)  # in a tuple: registered once, in the first changed block
        width, rank = shared.V.shape
        self.out, self.into = base.out_features // width, base.in_features // width
        if form == "tt":
            self.S = nn.Parameter(torch.empty(self.out, self.into, rank, rank).uniform_(-1, 1) / math.sqrt(rank))
        else:  # Xavier's bound for all pieces together
            bound = math.sqrt(6 / (rank + pieces))
            self.P = nn.Parameter(torch.empty(self.out, self.into, rank).uniform_(-bound, bound))

    def cores(self) -> Float[Tensor, "out into rank rank"]:
        """S [o, i, r, r]."""
        return self.S if hasattr(self, "S") else torch.einsum("oit,tsr->oisr", self.P, self.shared[0].C)

    def delta(self) -> Float[Tensor, "height width"]:
        """The whole change of the weight, [o D, i D]."""
        pieces = torch.einsum("ds,oisr,re->odie", self.shared[0].V, self.cores(), self.shared[0].U)
        return self.scale * pieces.flatten(2).flatten(0, 1)

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch height"]:
        U, V = self.shared[0].U, self.shared[0].V
        h = x.unflatten(-1, (self.into, -1)) @ U.T  # [.., i, r]
        h = torch.einsum("...ir,oisr->...os", h, self.cores())  # [.., o, r]
        return self.base(x) + self.scale * (h @ V.T).flatten(-2)


@register("fact")
@dataclass(frozen=True)
class FacT(Method):
    rank: int = option(16, "of the factors", at_least=1)
    form: str = option("tt", "a core for each piece, or cores that all pieces mix", FORMS)
    scale: float = option(1.0, "s, the strength of the change; tuned for each task in the paper", above=-math.inf)

    title = "FacT"
    idea = "factorise the weight changes of all layers together"
    family = "reparametrised"
    source = "Jie & Deng 2023"
    not_on_windows = "one factorisation holds all weights, which must have one width"
    lr = 5e-3

    def pieces(self, backbone: ViT) -> int:
        """Number of D x D pieces in the changed blocks. Raises PeftlabError where the weights cannot be cut so."""
        total, D = 0, backbone.embed_dim
        for block in self.blocks(backbone, *LINEARS.values()):
            for path in LINEARS.values():
                rows, columns = block.get_submodule(path).weight.shape
                if rows % D or columns % D:
                    raise PeftlabError(f"fact cuts weights into {D} x {D} pieces, but {path} is {rows} x {columns}")
                total += rows * columns // D**2
        return total

    def apply(self, vit: ViT) -> None:
        check_size("rank", self.rank, vit.embed_dim)
        pieces, blocks = self.pieces(vit), self.blocks(vit)
        blocks[0].shared = Shared(vit.embed_dim, self.rank, self.form)
        for block in blocks:
            for path in LINEARS.values():
                fact = FacTLinear(block.get_submodule(path), blocks[0].shared, pieces, self.form, self.scale)
                block.set_submodule(path, fact)

    def count(self, backbone: ViT) -> int:
        D, r, n = backbone.embed_dim, self.rank, self.pieces(backbone)
        return 2 * D * r + (n * r**2 if self.form == "tt" else r**3 + n * r)

    def merge(self, vit: ViT) -> None:
        for block in self.blocks(vit):
            for path in LINEARS.values():
                fact = block.get_submodule(path)
                fact.base.weight += fact.delta()
                block.set_submodule(path, fact.base)
        del self.blocks(vit)[0].shared
