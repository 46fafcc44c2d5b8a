"""Files that survive a crash: written under a temporary name, then renamed; safetensors and JSON only."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


@contextmanager
def _replacing(path: str | Path) -> Iterator[Path]:
    """A temporary name next to `path`; the file written there replaces it, or is removed where writing fails."""
    path = Path(path)
    part = path.with_name(f"{path.name}.part{os.getpid()}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in one atomic step."""
    with _replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as JSON in one atomic step."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Any = None) -> None:
    """Write tensors by name as safetensors in one atomic step. `metadata` is any JSON value.

    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_tensors(f"{folder}/lora.safetensors", {"A": torch.ones(2)}, {"rank": 8})
    ...     read_tensors(f"{folder}/lora.safetensors")
    ({'A': tensor([1., 1.])}, {'rank': 8})
    """
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    with _replacing(path) as part:
        save_file(plain, part, metadata={"format": "pt", "peftlab": json.dumps(metadata)})


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], Any]:
    """-> (tensors by name, the metadata given to `write_tensors` or None)."""
    with safe_open(str(path), "pt") as f:
        metadata = json.loads((f.metadata() or {}).get("peftlab", "null"))
        return {name: f.get_tensor(name) for name in f.keys()}, metadata
