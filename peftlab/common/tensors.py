"""Tensors in files that survive a crash: safetensors and nothing else. Apart from `files`, which needs no torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .files import reading, replacing


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Any = None) -> None:
    """Write tensors by name as safetensors, as `write_text` does. `metadata` is any JSON value.

    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_tensors(f"{folder}/lora.safetensors", {"A": torch.ones(2)}, {"rank": 8})
    ...     read_tensors(f"{folder}/lora.safetensors")
    ({'A': tensor([1., 1.])}, {'rank': 8})
    """
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    with replacing(path) as part:
        part.touch()
        mode = part.stat().st_mode  # as the umask has it; save_file replaces the file by one that is private
        try:
            save_file(plain, part, metadata={"peftlab": json.dumps(metadata)})  # one key: equal bytes
        except SafetensorError as error:  # a full disk, most often
            raise OSError(f"{path}: cannot be written ({error})") from None
        part.chmod(mode)


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], Any]:
    """-> (tensors by name, the metadata given to `write_tensors` or None).

    Raises DataError, naming the file, where it is missing, damaged or something else.
    """
    with reading(Path(path), "safetensors"), safe_open(str(path), "pt") as f:
        metadata = json.loads((f.metadata() or {}).get("peftlab", "null"))
        return {name: f.get_tensor(name) for name in f.keys()}, metadata
