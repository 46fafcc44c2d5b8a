"""What several methods are made of: ways to put a module around a frozen one, and the bottleneck of adapters.

The attribute names tell where a trained parameter acts, and pictures of a block read them: `before` and `after` stand
in line with the frozen module `base`, `parallel` runs parallel to it.
"""

from typing import Any

from jaxtyping import Float
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ...backbones.types import ViT
from ...common.errors import NotMergeable, PeftlabError

# The linear layers of a timm block by their short names; qkv holds the rows of q, k and v, in this order.
LINEARS = {"qkv": "attn.qkv", "o": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
QKV = ("q", "k", "v")
NOT_LINEAR = "a nonlinearity stands between its two matrices, so no single matrix computes the same"


class Before(nn.Module):
    """y = base(before(x))"""

    base: Any
    before: Any

    def __init__(self, base: nn.Module, before: nn.Module) -> None:
        super().__init__()
        self.base, self.before = base, before

    def forward(self, x: Tensor) -> Tensor:
        return self.base(self.before(x))


class After(nn.Module):
    """y = after(base(x))"""

    base: Any
    after: Any

    def __init__(self, base: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.base, self.after = base, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.base(x))


class ParallelBranch(nn.Module):
    """y = base(x) + scale * parallel(x); further arguments, such as attention masks, go to the base."""

    base: Any
    parallel: Any

    def __init__(self, base: nn.Module, parallel: nn.Module, scale: float) -> None:
        super().__init__()
        self.base, self.parallel, self.scale = base, parallel, scale

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self.base(x, *args, **kwargs) + self.scale * self.parallel(x)


class Bottleneck(nn.Module):
    """x [.., D] -> up(act(down(x))) [.., D] with down [h, D] and up [D, h], both with bias: 2 D h + h + D parameters.

    Starts at exactly 0, because up does; down is Kaiming-uniform.
    """

    def __init__(self, width: int, bottleneck: int, act: nn.Module) -> None:
        super().__init__()
        self.down, self.act, self.up = nn.Linear(width, bottleneck), act, nn.Linear(bottleneck, width)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        return self.up(self.act(self.down(x)))


def bottleneck_size(block: Any, bottleneck: int) -> int:
    """The number of parameters of a Bottleneck beside a block of width D: 2 D h + h + D."""
    return 2 * width(block) * bottleneck + bottleneck + width(block)


class ResidualBlock(nn.Module):
    """timm's Block, opened where its two sub-layers join the residual stream; it takes a Block's layers over.

    Subclasses say how: after_attention(x, branch) and after_mlp(x, branch) are x + branch in the plain Block.
    """

    norm1: nn.Module
    attn: nn.Module
    ls1: nn.Module
    drop_path1: nn.Module
    norm2: nn.Module
    mlp: nn.Module
    ls2: nn.Module
    drop_path2: nn.Module

    def __init__(self, block: nn.Module, method: str, **added: nn.Module) -> None:
        super().__init__()
        if type(block) is not Block:
            raise PeftlabError(f"{method} needs timm's plain Block, but this backbone has {type(block).__name__}")
        for name, layer in (dict(block.named_children()) | added).items():
            self.add_module(name, layer)
        self.train(block.training)

    def after_attention(self, x: Tensor, branch: Tensor) -> Tensor:
        return x + branch

    def after_mlp(self, x: Tensor, branch: Tensor) -> Tensor:
        return x + branch

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        attended = self.attn(self.norm1(x), attn_mask=attn_mask, is_causal=is_causal)
        x = self.after_attention(x, self.drop_path1(self.ls1(attended)))
        return self.after_mlp(x, self.drop_path2(self.ls2(self.mlp(self.norm2(x)))))


def fold_channels(linear: Any, change: Any) -> None:
    """Write a map of some output channels, y_S <- y_S + U y_S + u, into the weight and bias of the layer before it.

    Raises NotMergeable without a bias.
    """
    if linear.bias is None:
        raise NotMergeable("this backbone's layer before the map has no bias, into which the map's u could be merged")
    S = change.indices
    linear.weight[S] += change.U @ linear.weight[S]
    linear.bias[S] += change.U @ linear.bias[S] + change.u


def width(block: Any) -> int:
    """D, the width of the tokens that a plain block gives; in a ViT of windows it grows from stage to stage."""
    return block.norm2.weight.numel()


def replace_block(vit: ViT, block: nn.Module, new: nn.Module) -> None:
    """Put another module where a block stands."""
    vit.blocks[list(vit.blocks).index(block)] = new
