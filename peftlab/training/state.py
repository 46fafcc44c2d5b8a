"""What an unfinished training keeps in order to go on: trained tensors and the optimizer's moments."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..common.tensors import read_tensors, write_tensors


def save_state(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, extra: Any) -> None:
    """Save what training needs to go on: trainable parameters, optimizer moments, and `extra` (JSON)."""
    tensors = {f"model.{name}": p for name, p in model.named_parameters() if p.requires_grad}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{key}": value for key, value in state.items()}
    write_tensors(path, tensors, extra)


def load_state(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    """Restore `save_state` in place. Returns `extra`."""
    tensors, extra = read_tensors(path)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.requires_grad:
                p.copy_(tensors[f"model.{name}"])
    restored = optimizer.state_dict()
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, i, key = name.split(".")
            restored["state"].setdefault(int(i), {})[key] = value
    optimizer.load_state_dict(restored)
    return extra
