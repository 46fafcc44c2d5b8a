"""Adapters as this version writes them, kept so that a later version must read them: tests/golden/adapters.

    PYTHONPATH=tests python tests/golden_adapters.py     # adds what new methods lack, overwrites nothing

A folder a method, and logits.json with what each computes. They are of one small backbone, which lies beside them.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from support import make_task
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from peftlab.backbones.load import load_backbone, save_backbone
from peftlab.backbones.types import ViT
from peftlab.methods import METHODS, attach, load_adapter
from peftlab.tasks.task import Task
from peftlab.training.fit import fit

FOLDER = Path(__file__).parent / "golden" / "adapters"
LOGITS = FOLDER / "logits.json"
BACKBONE = FOLDER / "backbone.safetensors"
SHAPE = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
CLASSES = ("disc", "ring", "star")
SIZES = (16, 24)  # the input size they were trained at, and another


def backbone(size: int) -> ViT:
    return load_backbone(str(BACKBONE), img_size=size)


def images(size: int) -> Tensor:
    """Two images that follow from no random numbers."""
    return torch.arange(2.0 * 3 * size * size).sin().reshape(2, 3, size, size)


def computed(name: str, size: int) -> list[list[float]]:
    """The logits of the adapter in a folder, at an input size."""
    with torch.no_grad():
        return load_adapter(backbone(size), FOLDER / name)(images(size)).tolist()


def main() -> None:
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not BACKBONE.exists():
        torch.manual_seed(0)
        vit = VisionTransformer(**SHAPE, num_classes=0)
        for p in vit.parameters():
            torch.nn.init.normal_(p, std=0.2)
        save_backbone(vit, BACKBONE, SHAPE, "half")
    logits = json.loads(LOGITS.read_text()) if LOGITS.exists() else {}
    with TemporaryDirectory() as folder:
        task = Task("shapes", "natural", "", CLASSES, make_task(Path(folder) / "shapes", CLASSES, (9, 3, 3)), True)
        for name in sorted(METHODS.keys() - logits.keys()):
            model = attach(backbone(SIZES[0]), name, len(CLASSES))
            fit(model, task, epochs=1, batch_size=4, device="cpu", runs=folder)  # both stages, class names
            with torch.no_grad():
                for p in model.parameters():
                    if p.requires_grad:
                        p.add_(torch.empty_like(p).normal_(0, 0.1))  # so that no term hides behind a zero
            model.save(FOLDER / name)
            logits[name] = {str(size): computed(name, size) for size in SIZES}
            print(name, sum(f.stat().st_size for f in (FOLDER / name).iterdir()), "bytes")
    rows = [f"{json.dumps(name)}: {json.dumps(each)}" for name, each in sorted(logits.items())]
    LOGITS.write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    main()
