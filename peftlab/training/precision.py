"""On which device a model is trained, and in which precision."""

import torch

from ..common.errors import PeftlabError, near


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


def autocast(device: torch.device) -> torch.autocast:
    """bf16 where it helps: on CUDA devices that compute in it; elsewhere full precision."""
    enabled = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def precision(device: torch.device) -> str:
    """In which arithmetic a forward pass is computed on a device: 'bf16' or 'fp32', and whether products are rougher.

    >>> precision(torch.device("cpu"))
    'fp32'
    """
    kind, matmul = "bf16" if autocast(device)._enabled else "fp32", torch.get_float32_matmul_precision()
    return kind if matmul == "highest" else f"{kind}, products {matmul}"
