"""What GIST adds to a training step of its host, and how much of that is the price of one more token.

    python benchmarks/gist_overhead.py [--backbone vit_base_patch16_224] [--batch-size 4] [--rounds 10] [--host lora]

Three steps in turns: the host; the host with one more token that only sits there (no second answer, no KL); GIST with
its own loss. Ratios are formed within each round; median and quartiles over rounds are printed.
"""

import argparse
import statistics

import torch
import torch.nn.functional as F
from paired import paired, ratio, setting

from peftlab.backbones import input_size, load_backbone
from peftlab.costs import training_step
from peftlab.methods import attach
from peftlab.training import pick_device

CLASSES = 10


def cls_alone(model, x, y):
    """What the host minimises: the second answer is neither computed nor scored."""
    return F.cross_entropy(model(x), y)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="vit_base_patch16_224", help="architecture; its weights are random")
    parser.add_argument("--img-size", type=int)
    parser.add_argument("--host", default="lora")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    device = pick_device()
    backbone = load_backbone(args.backbone, pretrained=False, img_size=args.img_size).to(device)
    x = torch.randn(args.batch_size, 3, *input_size(backbone), device=device)
    y = torch.arange(args.batch_size, device=device) % CLASSES
    host = attach(backbone, args.host, CLASSES).train()
    gist, idle = (attach(backbone, "gist", CLASSES, host=args.host).train() for _ in range(2))
    steps = {
        "host": training_step(host, x, y)[0],
        "host, one more token": training_step(idle, x, y, cls_alone)[0],
        "GIST": training_step(gist, x, y)[0],
    }
    taken = paired(steps, args.rounds)
    print(setting(backbone, args.batch_size, device) + f", host {args.host}")
    for name, seconds in taken.items():
        print(f"{name}: median {1000 * statistics.median(seconds):.1f} ms")
    for a, b in [("host, one more token", "host"), ("GIST", "host, one more token"), ("GIST", "host")]:
        low, middle, high = ratio(taken, a, b)
        print(f"time of {a} / {b}: {middle:.3f} (quartiles {low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
