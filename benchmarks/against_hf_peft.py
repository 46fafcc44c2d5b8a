"""Step time and memory of LoRA and (IA)3 against HF peft, and of LoRA against the least that any method can cost.

    python benchmarks/against_hf_peft.py [--backbone NAME] [--img-size 64] [--batch-size 32] [--rounds 30]

Both sides compute the same function on the same timm ViT: LoRA of rank 8 on the fused qkv, (IA)3 on qkv and the input
of fc2. Steps are taken in turns, so that whatever else the machine does falls on all alike; the ratio is formed within
each round, and its median and quartiles over rounds are printed. Needs the extra: pip install 'peftlab[hf]'.

Floors, for the same batch: a frozen forward pass; and a forward pass with a backward pass to the tokens that enter the
first block, which every method that changes the first block has to make.
"""

import argparse
import statistics
import warnings

import pandas as pd
import peft
import torch
import torch.nn.functional as F
from paired import CLASSES, forward_step, paired, ratio, setting

from peftlab.analysis.costs import MIB, activation_bytes, peak_bytes, training_step
from peftlab.backbones.load import load_backbone
from peftlab.backbones.preprocess import input_size
from peftlab.backbones.stages import stages
from peftlab.methods import attach
from peftlab.methods.core.model import share
from peftlab.training.precision import pick_device


def hf_model(backbone, config):
    vit = share(backbone)
    vit.reset_classifier(CLASSES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return peft.get_peft_model(vit, config).to(next(backbone.parameters()).device)


def input_gradient_step(model, x, y):
    """Forward, and backward to the tokens that enter the first block; no weight gets a gradient."""
    embed, *later = stages(model.vit)
    with torch.no_grad():
        embedding = embed.run(x)

    def step():
        with torch.no_grad():
            embed.run(x)
        tokens = z = embedding.clone().requires_grad_()
        for stage in later:
            z = stage.run(z)
        torch.autograd.grad(F.cross_entropy(z, y), tokens)

    return step


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="peftlab_vit_mini", help="name or weights file")
    parser.add_argument("--random-weights", action="store_true", help="only the architecture, nothing is downloaded")
    parser.add_argument("--img-size", type=int)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    device = pick_device()
    backbone = load_backbone(args.backbone, pretrained=not args.random_weights, img_size=args.img_size).to(device)
    x = torch.randn(args.batch_size, 3, *input_size(backbone), device=device)
    y = torch.arange(args.batch_size, device=device) % CLASSES

    frozen = attach(backbone, "linear", CLASSES)
    frozen.requires_grad_(False)
    models = {
        "LoRA qkv, peftlab": attach(backbone, "lora", CLASSES, targets=("qkv",)),
        "LoRA qkv, HF peft": hf_model(
            backbone, peft.LoraConfig(r=8, lora_alpha=8, target_modules=["qkv"], modules_to_save=["head"])
        ),
        "LoRA q v, peftlab": attach(backbone, "lora", CLASSES),
        "(IA)3, peftlab": attach(backbone, "ia3", CLASSES, targets=("q", "k", "v", "ff")),
        "(IA)3, HF peft": hf_model(
            backbone,
            peft.IA3Config(target_modules=["qkv", "fc2"], feedforward_modules=["fc2"], modules_to_save=["head"]),
        ),
    }
    trained = {name: sum(p.numel() for p in m.parameters() if p.requires_grad) for name, m in models.items()}
    assert trained["LoRA qkv, peftlab"] == trained["LoRA qkv, HF peft"], "not the same method"
    assert trained["(IA)3, peftlab"] == trained["(IA)3, HF peft"], "not the same method"
    memory = {name: (activation_bytes(m, x, y) / MIB, peak_bytes(m, x, y) / MIB) for name, m in models.items()}
    steps = {name: training_step(m, x, y)[0] for name, m in models.items()}
    steps |= {"floor: forward": forward_step(frozen, x)}
    steps |= {"floor: forward, input gradient": input_gradient_step(frozen, x, y)}
    taken = paired(steps, args.rounds)

    print(setting(backbone, args.batch_size, device))
    rows = [(name, 1000 * statistics.median(t), *memory.get(name, (None, None))) for name, t in taken.items()]
    table = pd.DataFrame(rows, columns=["", "median ms", "activation memory, MiB", "peak, MiB"]).set_index("")
    print(table.round(1).to_string(), "\n")
    pairs = [
        ("LoRA qkv, peftlab", "LoRA qkv, HF peft"),
        ("(IA)3, peftlab", "(IA)3, HF peft"),
        ("LoRA q v, peftlab", "floor: forward"),
        ("LoRA q v, peftlab", "floor: forward, input gradient"),
    ]
    for a, b in pairs:
        low, middle, high = ratio(taken, a, b)
        note = f"; peak memory {memory[a][1] / memory[b][1]:.3f}" if b in memory else ""
        print(f"time of {a} / {b}: {middle:.3f} (quartiles {low:.3f} to {high:.3f}){note}")


if __name__ == "__main__":
    main()
