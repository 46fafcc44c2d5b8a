"""From pixels to logits: how images are prepared, and features, predictions and accuracies of a ViT."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..backbones.preprocess import input_size, prepare, prepare_for
from ..backbones.protocols import Preprocessing, Protocol, get_protocol
from ..backbones.stages import run_stages
from ..backbones.types import Images, Labels, Logits, ViT
from ..common.progress import progress
from ..tasks.task import Task
from .precision import computing, pick_device, pick_precision

EVAL_BATCH = 64  # small enough for the caches of a CPU: a fifth faster than 256


def first_images(task: Task, vit: ViT, images: int, split: str = "train800") -> Images:
    """The first so many images of a split as a ViT reads them -> [n, 3, H, W] on its device."""
    rows = range(min(images, task.size(split)))
    return prepare_for(vit, task.pixels(split, input_size(vit), rows))


def pixel_batches(
    vit: ViT, task: Any, split: str, preprocessing: Preprocessing, device: torch.device, limit: int | None = None
) -> Iterator[Images]:
    """Yield normalised images [B, 3, H, W] of a split in order, decoding a batch at a time."""
    n = min(task.size(split), limit or task.size(split))
    for first in progress(range(0, n, EVAL_BATCH), desc=f"{task.title} {split}", unit="batch"):
        rows = range(first, min(first + EVAL_BATCH, n))
        pixels = task.pixels(split, input_size(vit), rows, preprocessing.interpolation)
        yield prepare(pixels, vit, preprocessing, device)


def feature_batches(
    vit: ViT,
    task: Any,
    split: str,
    protocol: str | Protocol = "peftlab",
    stop: int | None = -1,
    limit: int | None = None,
    device: str | torch.device | None = None,
) -> Iterator[Float[Tensor, "batch ..."]]:
    """Yield `features` a batch at a time, in fp32 and still on the device."""
    device, protocol = pick_device(device), get_protocol(protocol)
    vit.to(device).eval()
    precision = pick_precision(protocol.recipe.precision, device)
    for x in pixel_batches(vit, task, split, protocol.preprocessing, device, limit):
        with torch.no_grad(), computing(vit, device, precision):  # each alone: left while the reader has its turn
            found = run_stages(vit, x, stop=stop).float()
        yield found


def features(
    vit: ViT,
    task: Any,
    split: str,
    protocol: str | Protocol = "peftlab",
    stop: int | None = -1,
    limit: int | None = None,
    device: str | torch.device | None = None,
) -> Float[Tensor, "images ..."]:
    """What stage `stop` of a ViT would read, for a whole split, on the CPU.

    stop -1: the pooled features [n, D] that the head reads; smaller: tokens [n, N, D] (see `stages`).
    limit: only the first so many images.
    """
    return torch.cat([x.cpu() for x in feature_batches(vit, task, split, protocol, stop, limit, device)])


def predict(
    vit: ViT, task: Task, split: str, protocol: str | Protocol = "peftlab", device: str | torch.device | None = None
) -> Logits:
    """Logits [n, classes] of a ViT with a head, on the CPU."""
    return features(vit, task, split, protocol, stop=None, device=device)


def evaluate(
    model: Any, task: Task, split: str, protocol: str | Protocol = "peftlab", device: str | torch.device | None = None
) -> dict[str, Any]:
    """-> {'accuracy': top-1 in [0, 1], 'loss': mean cross-entropy in nats, 'images': n}. Keeps no record."""
    return measures(predict(model.vit, task, split, protocol, device), torch.from_numpy(task.labels(split)))


def measures(logits: Logits, labels: Labels) -> dict[str, Any]:
    """What `evaluate` says of logits."""
    return {
        "accuracy": (logits.argmax(1) == labels).double().mean().item(),
        "loss": F.cross_entropy(logits, labels).item(),
        "images": len(labels),
    }
