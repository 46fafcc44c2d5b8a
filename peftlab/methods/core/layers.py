"""What several methods are made of: ways to put a module around a frozen one, and the bottleneck of adapters.

The attribute names tell where a trained parameter acts, and pictures of a block read them: `before` and `after` stand
in line with the frozen module `base`, `beside` runs parallel to it.
"""

from timm.models.vision_transformer import Block
from torch import nn

from ...common.errors import PeftlabError

# The linear layers of a timm block by their short names; qkv holds the rows of q, k and v, in this order.
LINEARS = {"qkv": "attn.qkv", "o": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
QKV = ("q", "k", "v")
NOT_LINEAR = "a nonlinearity stands between its two matrices, so no single matrix computes the same"


class Before(nn.Module):
    """y = base(before(x))"""

    def __init__(self, base, before):
        super().__init__()
        self.base, self.before = base, before

    def forward(self, x):
        return self.base(self.before(x))


class After(nn.Module):
    """y = after(base(x))"""

    def __init__(self, base, after):
        super().__init__()
        self.base, self.after = base, after

    def forward(self, x):
        return self.after(self.base(x))


class Beside(nn.Module):
    """y = base(x) + scale * beside(x); further arguments, such as attention masks, go to the base."""

    def __init__(self, base, beside, scale):
        super().__init__()
        self.base, self.beside, self.scale = base, beside, scale

    def forward(self, x, *args, **kwargs):
        return self.base(x, *args, **kwargs) + self.scale * self.beside(x)


class Bottleneck(nn.Module):
    """x [.., D] -> up(act(down(x))) [.., D] with down [h, D] and up [D, h], both with bias: 2 D h + h + D parameters.

    Starts at exactly 0, because up does; down is Kaiming-uniform.
    """

    def __init__(self, width, bottleneck, act):
        super().__init__()
        self.down, self.act, self.up = nn.Linear(width, bottleneck), act, nn.Linear(bottleneck, width)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x):
        return self.up(self.act(self.down(x)))


def become(block, cls, method):
    """Make an existing timm Block one of a subclass, in place. Raises PeftlabError for blocks of another kind."""
    if type(block) not in (Block, cls):
        raise PeftlabError(f"{method} needs timm's plain Block, but this backbone has {type(block).__name__}")
    block.__class__ = cls
