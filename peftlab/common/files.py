"""Files that survive a crash: written under a temporary name, then renamed; safetensors and JSON only."""

import json
import os
from pathlib import Path

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
