"""On which device a model is trained, and in which precision."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

import torch
from torch import nn

from ..backbones.protocols import PRECISIONS
from ..common.errors import PeftlabError, check_choice, near


def devices() -> list[str]:
    """The devices of this machine, the fastest first."""
    cuda = ["cuda", *(f"cuda:{i}" for i in range(1, torch.cuda.device_count()))]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return [*(cuda if torch.cuda.is_available() else []), *mps, "cpu"]


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, else CUDA, else Apple's MPS, else the CPU. Raises PeftlabError for another."""
    there = devices()
    if device is None:
        return torch.device(there[0])
    if str(device).removesuffix(":0") not in there:
        raise PeftlabError(f"this machine has no device {str(device)!r}{near(device, there)}")
    return torch.device(device)


def has_bf16(device: torch.device) -> bool:
    """Whether a device has bf16 arithmetic of its own, as torch says; where it is emulated, fp32 is faster."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # A torch of before 2.11 cannot say.
    instructions: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    there = any(name.endswith("bf16") and value for name, value in instructions.items())
    return device.type == "cpu" and torch.backends.mkldnn.is_available() and there


def pick_precision(precision: str, device: torch.device) -> str:
    """The precision asked for; of "auto", bf16 where the device has its arithmetic, else fp32.

    Raises PeftlabError for one that is not among PRECISIONS.

    >>> pick_precision("fp32", torch.device("cpu"))
    'fp32'
    """
    check_choice("precision", precision, PRECISIONS)
    return precision if precision != "auto" else "bf16" if has_bf16(device) else "fp32"


def arithmetic(precision: str) -> str:
    """A precision, and what torch was told of products and convolutions of fp32 numbers, where that is no default."""
    try:
        products = torch.get_float32_matmul_precision()
        told = [] if products == "highest" else [f"products {products}"]
    except RuntimeError:  # whoever told the libraries one by one may not ask for what all were told
        told = [*_told("cuda.matmul"), *_told("mkldnn.matmul")]
    # The convolutions of cuDNN are in tf32 unless torch is told otherwise.
    return ", ".join([precision, *told, *_told("cudnn.conv", default="tf32"), *_told("mkldnn.conv")])


def _told(library: str, default: str = "ieee") -> list[str]:
    """How a library computes with fp32 numbers, unless that is the default; a torch of before 2.9 cannot say."""
    try:
        how = attrgetter(f"{library}.fp32_precision")(torch.backends)
    except AttributeError:
        return []
    how = "ieee" if how == "none" else how  # who is told nothing computes exactly
    return [] if how == default else [f"{library} {how}"]


@contextmanager
def computing(model: nn.Module, device: torch.device, precision: str) -> Iterator[None]:
    """Within, a model's forward pass is computed in a precision; losses are for their readers to take in fp32.

    "bf16" is autocast: matrix products in bf16, norms' statistics, softmax and weights in fp32. On a CPU with explicit
    attention, because the backward pass of the fused kernel is slow there in bf16.
    """
    bf16 = precision == "bf16"
    # Autocast's cache of converted weights is emptied when the outermost autocast ends: within another one, which may
    # be the caller's, every step would see the weights of the first.
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16, cache_enabled=False):
        if bf16 and device.type == "cpu":
            with explicit_attention(model):
                yield
        else:
            yield


@contextmanager
def explicit_attention(model: nn.Module) -> Iterator[None]:
    """Within, attention is two matrix products and a softmax, not one fused kernel."""
    fused: list[Any] = [m for m in model.modules() if getattr(m, "fused_attn", False)]
    for m in fused:
        m.fused_attn = False
    try:
        yield
    finally:
        for m in fused:
            m.fused_attn = True
