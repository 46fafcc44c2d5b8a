"""Steps timed in turns: whatever else the machine does falls on all of them alike."""

import argparse
import random
import statistics
import time

import torch
import torch.nn.functional as F

from peftlab.backbones.load import load_backbone
from peftlab.backbones.preprocess import input_size
from peftlab.backbones.stages import stages
from peftlab.common.progress import progress
from peftlab.training.precision import computing, pick_device

CLASSES = 10


def arguments(doc, backbone="vit_base_patch16_224", batch_size=8, rounds=10):
    """A parser with what every benchmark asks for."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default=backbone, help="architecture; its weights are random")
    parser.add_argument("--img-size", type=int)
    parser.add_argument("--batch-size", type=int, default=batch_size)
    parser.add_argument("--rounds", type=int, default=rounds)
    return parser


def random_problem(args):
    """(backbone with random weights, images x, labels y) on the device."""
    device = pick_device()
    backbone = load_backbone(args.backbone, pretrained=False, img_size=args.img_size).to(device)
    x = torch.randn(args.batch_size, 3, *input_size(backbone), device=device)
    return backbone, x, torch.arange(args.batch_size, device=device) % CLASSES


def forward_step(model, x, precision="fp32"):
    """A function that makes one forward pass, for inference."""

    def step():
        with torch.no_grad(), computing(model, x.device, precision):
            model(x)

    return step


def input_gradient_step(model, x, y, precision="fp32"):
    """Forward, and backward to the tokens that enter the first block; no weight gets a gradient."""
    embed, *later = stages(model.vit)

    def step():
        with computing(model, x.device, precision):
            with torch.no_grad():
                z = embed.run(x)
            tokens = z.requires_grad_()
            for stage in later:
                z = stage.run(z)
            loss = F.cross_entropy(z.float(), y)
        torch.autograd.grad(loss, tokens)

    return step


def paired(steps, rounds):
    """{name: seconds of each round}; every round takes each step once, in random order."""
    taken, order = {name: [] for name in steps}, list(steps)
    for step in steps.values():
        step()
    for _ in progress(range(rounds), desc="rounds"):
        random.shuffle(order)
        for name in order:
            began = time.perf_counter()
            steps[name]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            taken[name].append(time.perf_counter() - began)
    return taken


def ratio(taken, numerator, denominator):
    """Quartiles of the ratios within rounds."""
    return statistics.quantiles(
        [a / b for a, b in zip(taken[numerator], taken[denominator], strict=True)], n=4, method="inclusive"
    )


def setting(backbone, batch_size, device):
    """One line: what was measured, and where."""
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    return f"{backbone.peftlab_name}, {input_size(backbone)[0]} px, batches of {batch_size}, {where}"


def report(taken, pairs):
    """Print the median of every step and, for pairs of names, quartiles of their ratio."""
    for name, seconds in taken.items():
        print(f"{name}: median {1000 * statistics.median(seconds):.1f} ms")
    for a, b in pairs:
        low, middle, high = ratio(taken, a, b)
        print(f"time of {a} / {b}: {middle:.3f} (quartiles {low:.3f} to {high:.3f})")
