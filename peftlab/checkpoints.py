"""Files that survive a crash: written under a temporary name, then renamed; safetensors and JSON only."""

import json
import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file


def write_text(path, text):
    """Write a text file in one atomic step."""
    path = Path(path)
    part = path.with_name(f"{path.name}.part{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path, value):
    """Write `value` as JSON in one atomic step."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_tensors(path, tensors, metadata=None):
    """Write a dict of tensors as safetensors in one atomic step. `metadata` is any JSON value."""
    path = Path(path)
    part = path.with_name(f"{path.name}.part{os.getpid()}")
    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    try:
        save_file(tensors, part, metadata={"format": "pt", "peftlab": json.dumps(metadata)})
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_tensors(path):
    """-> (dict of tensors, the metadata given to `write_tensors` or None)."""
    with safe_open(str(path), "pt") as f:
        metadata = json.loads((f.metadata() or {}).get("peftlab", "null"))
        return {name: f.get_tensor(name) for name in f.keys()}, metadata


def save_state(path, model, optimizer, extra):
    """Save what training needs to go on: trainable parameters, optimizer moments, and `extra` (JSON)."""
    tensors = {f"model.{name}": p for name, p in model.named_parameters() if p.requires_grad}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{key}": value for key, value in state.items()}
    write_tensors(path, tensors, extra)


def load_state(path, model, optimizer):
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
