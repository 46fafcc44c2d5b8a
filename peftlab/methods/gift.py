"""GIFT (v1): a small transformer reads the frozen weights and writes their changes.

Idea: the output rows of a weight are tokens; they attend to a few learned clusters of themselves (parameter-to-cluster
attention, PaCa), and out comes the change. One such generator serves all layers.
Equation: W+ = W + X psi. With l2(X) each token divided by its norm, X = W phi (+ position), then in each hyper-block
    X = X + PaCa(l2(X)),  X = X + FFN(l2(X));
    PaCa(U): C = sigmoid(U W_c + b_c), Z = l2(C^T U), A = softmax(Q K^T / sqrt(d_h)) over clusters, output proj(A V)
    with Q of the tokens U, K and V of the clusters Z. FFN: Linear, GELU, Linear, `ratio` times as wide inside.
Shapes: W [d_out, d_in]; X, U [d_out, d] with d = rank; C [d_out, M], Z [M, d], A [d_out, M] for each head. Layers are
the batch axis. C, read as a head on the layer's output features, is a segmentation into M maps: views.gift.
Parameters: 2 d_in d + l P, P = 4 (d^2 + d) + M (d + 1) + 2 ratio d^2 + ratio d + d, + d_out d for positions, for each
target, whatever the depth; ViT-B/16, d = 16, M = 96, ratio 2, l = 1: 28,368.
Start: psi = 0, so exactly the frozen backbone; on the first step only psi and the head have gradients.
Merging: W + X psi is again one matrix, and the generator is not needed any more.
Source: Savadikar et al. 2023, arXiv 2312.00700v1: its figures give the blocks, sigmoid, sharing and M = 96. v1's code
was never released. From the block in the later release come Z's norm, A's scale and axis, the missing biases of phi
and psi, psi = 0, one head and ratio 2. Ours: d = 16, one hyper-block, no position unless asked for (learned, from 0,
after the reduction), softmax over the rows as the other clustering, and weight decay of W_c too, which the release
leaves out. Its 1/d_out before Z's norm changes nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers import Mlp
from torch import Tensor, nn

from ..backbones.types import ViT
from ..common.errors import PeftlabError
from .core.base import option, register
from .gift_linear import Generator, GiftLinear

CLUSTERINGS = ("sigmoid", "softmax")


def l2(x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
    """Each token divided by its norm."""
    return F.normalize(x, dim=-1)


class PaCa(nn.Module):
    """Parameter-to-cluster attention: tokens U [L, N, d] -> [L, N, d]."""

    def __init__(self, width: int, clusters: int, heads: int, clustering: str) -> None:
        super().__init__()
        self.cluster = nn.Linear(width, clusters)
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))
        self.heads, self.clustering = heads, clustering

    def assignment(self, U: Float[Tensor, "layers rows rank"]) -> Float[Tensor, "layers rows clusters"]:
        """C [L, N, M]: in (0, 1) by sigmoid; by softmax each cluster's weights sum to 1 over the N tokens."""
        return self.cluster(U).sigmoid() if self.clustering == "sigmoid" else self.cluster(U).softmax(-2)

    def soft_clusters(self, U: Float[Tensor, "layers rows rank"]) -> Float[Tensor, "layers clusters rank"]:
        """Z [L, M, d], each of norm 1."""
        return l2(self.assignment(U).mT @ U)

    def attention(
        self, U: Float[Tensor, "layers rows rank"], Z: Float[Tensor, "layers clusters rank"]
    ) -> Float[Tensor, "layers heads rows clusters"]:
        """A [L, heads, N, M]; each row sums to 1."""
        q, k = self._split(self.q(U)), self._split(self.k(Z))
        return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)

    def forward(self, U: Float[Tensor, "layers rows rank"]) -> Float[Tensor, "layers rows rank"]:
        Z = self.soft_clusters(U)
        mixed = self.attention(U, Z) @ self._split(self.v(Z))  # [L, heads, N, d / heads]
        return self.proj(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: Float[Tensor, "layers n rank"]) -> Float[Tensor, "layers heads n split"]:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class HyperBlock(nn.Module):
    """A pre-norm transformer block with PaCa for attention and l2 for its norms."""

    def __init__(self, width: int, clusters: int, heads: int, ratio: int, clustering: str) -> None:
        super().__init__()
        self.attn = PaCa(width, clusters, heads, clustering)
        self.mlp = Mlp(width, ratio * width)

    def forward(self, X: Float[Tensor, "layers rows rank"]) -> Float[Tensor, "layers rows rank"]:
        X = X + self.attn(l2(X))
        return X + self.mlp(l2(X))


class HyperTransformer(Generator):
    """W [L, d_out, d_in] -> tokens X [L, d_out, d]; psi makes rows of the change out of them."""

    def __init__(self, width: int, rank: int, blocks: Iterable[HyperBlock], rows: int | None = None) -> None:
        super().__init__(width, rank)
        self.blocks = nn.ModuleList(blocks)
        self.position = nn.Parameter(torch.zeros(rows, rank)) if rows else None

    def embed(self, weights: Sequence[Float[Tensor, "rows width"]]) -> Float[Tensor, "layers rows rank"]:
        """The tokens that enter the hyper-blocks, [L, d_out, d]."""
        X = super().forward(weights)
        return X if self.position is None else X + self.position

    def forward(self, weights: Sequence[Float[Tensor, "rows width"]]) -> Float[Tensor, "layers rows rank"]:
        X = self.embed(weights)
        for block in self.blocks:
            X = block(X)
        return X

    def clusters(self, weights: Sequence[Float[Tensor, "rows width"]]) -> Float[Tensor, "layers rows clusters"]:
        """C [L, d_out, M] of the last hyper-block."""
        X = self.embed(weights)
        for block in self.blocks[:-1]:
            X = block(X)
        return self.blocks[-1].attn.assignment(l2(X))  # type: ignore[union-attr,operator]


@register("gift")
@dataclass(frozen=True)
class Gift(GiftLinear):
    clusters: int = option(96, "M, clusters that the rows of a weight attend to", at_least=1)
    hyper_blocks: int = option(1, "blocks of the generator", at_least=1)
    heads: int = option(1, "attention heads of each hyper-block; must divide the rank", at_least=1)
    ratio: int = option(2, "hidden width of a hyper-block's MLP in ranks", at_least=1)
    clustering: str = option("sigmoid", "of each assignment alone, or over the rows", CLUSTERINGS)
    position: bool = option(False, "a learned position for each row")

    title = "GIFT"
    idea = "generate all weight changes from the weights by one small transformer with clusters"
    family = "reparametrised"
    source = "Savadikar et al. 2023"
    lr = 5e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank % self.heads:
            raise PeftlabError(f"heads is {self.heads}, but must divide the rank, {self.rank}")

    def generator(self, linear: nn.Linear) -> HyperTransformer:
        sizes = self.rank, self.clusters, self.heads, self.ratio, self.clustering
        blocks = [HyperBlock(*sizes) for _ in range(self.hyper_blocks)]
        return HyperTransformer(linear.in_features, self.rank, blocks, linear.out_features if self.position else None)

    def count(self, backbone: ViT) -> int:
        d, M, ratio = self.rank, self.clusters, self.ratio
        block = 4 * (d**2 + d) + M * (d + 1) + 2 * ratio * d**2 + ratio * d + d
        rows = sum(layers[0].out_features for layers in self.layers(backbone).values()) if self.position else 0
        return super().count(backbone) + len(self.targets) * self.hyper_blocks * block + rows * d
