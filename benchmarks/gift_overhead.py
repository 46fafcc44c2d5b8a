"""What generating weights costs: a training step of GIFT against LoRA's, and inference after merging.

    python benchmarks/gift_overhead.py [--backbone vit_base_patch16_224] [--batch-size 8] [--rounds 10] [--rank 16]

All three change the same layers (the output projection of attention) at the same rank. GIFT's generator runs once a
step, so its share falls with the batch size. Ratios are formed within each round; median and quartiles are printed.
"""

import argparse
import statistics

import torch
from paired import paired, ratio, setting

from peftlab.backbones import input_size, load_backbone
from peftlab.costs import training_step
from peftlab.methods import attach
from peftlab.training import pick_device

CLASSES = 10


def forward_only(model, x):
    def step():
        with torch.inference_mode():
            model(x)

    return step


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="vit_base_patch16_224", help="architecture; its weights are random")
    parser.add_argument("--img-size", type=int)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    device = pick_device()
    backbone = load_backbone(args.backbone, pretrained=False, img_size=args.img_size).to(device)
    x = torch.randn(args.batch_size, 3, *input_size(backbone), device=device)
    y = torch.arange(args.batch_size, device=device) % CLASSES
    methods = {"LoRA": ("lora", {"targets": ("o",)}), "GIFT": ("gift", {}), "GIFT (linear)": ("gift_linear", {})}
    models = {
        label: attach(backbone, name, CLASSES, rank=args.rank, **options).train()
        for label, (name, options) in methods.items()
    }
    steps = {label: training_step(model, x, y)[0] for label, model in models.items()}
    steps |= {"plain, inference": forward_only(attach(backbone, "linear", CLASSES).merge(), x)}
    steps |= {"GIFT merged, inference": forward_only(models["GIFT"].merge(), x)}
    taken = paired(steps, args.rounds)
    print(setting(backbone, args.batch_size, device) + f", rank {args.rank} on the output projection")
    for name, seconds in taken.items():
        print(f"{name}: median {1000 * statistics.median(seconds):.1f} ms")
    for a, b in [("GIFT", "LoRA"), ("GIFT (linear)", "LoRA"), ("GIFT merged, inference", "plain, inference")]:
        low, middle, high = ratio(taken, a, b)
        print(f"time of {a} / {b}: {middle:.3f} (quartiles {low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
