"""Whether methods can be attached to a backbone, found on the meta device, without weights or a download."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import timm
import torch

from ..backbones.load import EMBEDDED, load_backbone
from ..backbones.types import ViT
from ..common.errors import PeftlabError, in_one_line
from ..methods import Method, attach


def architecture(name: str, img_size: int | None) -> ViT:
    """A backbone as `load_backbone` knows it, on the meta device: shapes without weights, nothing downloaded.

    Raises PeftlabError as `load_backbone` does, a name without its tag included.
    """
    # `load_backbone` asks for the tag where it is to load weights, and refuses other names before it does.
    known = (
        name in EMBEDDED
        or Path(name).suffix in (".safetensors", ".npz")
        or name.removeprefix("timm/") in timm.list_pretrained()
    )
    with _shapes_alone(f"{name!r} at img_size {img_size} cannot be built"):
        return load_backbone(name, pretrained=not known, img_size=img_size)


def check_attaches(vit: ViT, method: Method, num_classes: int) -> None:
    """Raise PeftlabError where a method cannot be attached to a ViT."""
    with _shapes_alone(f"{method} cannot be attached"):
        attach(vit, method, num_classes)


@contextmanager
def _shapes_alone(problem: str) -> Iterator[None]:
    """Within, tensors have shapes and no content, and whatever is raised is a PeftlabError."""
    try:
        with torch.device("meta"):
            yield
    except PeftlabError:
        raise
    except Exception as error:
        raise PeftlabError(f"{problem}: {in_one_line(error)}") from error
