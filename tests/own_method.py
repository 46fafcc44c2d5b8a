"""A method as a reader registers it in a script or a notebook, where no file can be read again."""

import types

from peftlab.methods import create_method

SCRIPT = """
from dataclasses import dataclass

import torch
from torch import nn

from peftlab.methods import Method, register

STRENGTH = 1.0
NOT_USED = 1


def start(width):
    return torch.full((width,), 0.0)


class Gate(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gate = nn.Parameter(start(width))

    def forward(self, x, power=1):
        return x * (1 + STRENGTH * self.gate) ** power


@register("gate")
@dataclass(frozen=True)
class GateMethod(Method):
    title, idea, family, source, lr = "Gate", "scale the features", "additive", "here", 1e-2

    def __post_init__(self):
        super().__post_init__()
        assert STRENGTH < 10

    def apply(self, vit):
        vit.norm = nn.Sequential(vit.norm, Gate(vit.embed_dim))

    def count(self, backbone):
        return backbone.embed_dim
"""


def run_script(text):
    """As a script or notebook is run: there is no file that one could read again."""
    module = types.ModuleType("__main__")
    exec(compile(text, "<cell>", "exec"), vars(module))  # noqa: S102
    return create_method("gate")
