"""Step time and memory of LoRA and (IA)3 against HF peft, and of LoRA against the least that any method can cost.

    python benchmarks/against_hf_peft.py --batch-size 64
    python benchmarks/against_hf_peft.py --backbone peftlab_vit_small --img-size 112

Both sides compute the same function on the same timm ViT: LoRA of rank 8 on the fused qkv, (IA)3 on qkv and the input
of fc2. HF peft is measured twice: as its users run it on a CPU, in fp32 with timm's fused attention; and under the
settings that `peftlab.fit` chooses here ("same settings": bf16 autocast with explicit attention, where the processor
has bf16 arithmetic). Steps are taken in turns, so that whatever else the machine does falls on all alike; the ratio is
formed within each round, and its median and quartiles over rounds are printed. Needs the extra: pip install
'peftlab[hf]'.

Floors, for the same batch and settings: a frozen forward pass; and a forward pass with a backward pass to the tokens
that enter the first block, which every method that changes the first block has to make.
"""

import statistics
import warnings

import pandas as pd
import peft
from paired import CLASSES, arguments, forward_step, input_gradient_step, paired, random_problem, ratio, setting

from peftlab.analysis.costs import MIB, activation_bytes, peak_bytes, training_step
from peftlab.methods import attach
from peftlab.methods.core.model import share
from peftlab.training.precision import pick_precision

SAME = ", same settings"


def hf_model(backbone, config):
    vit = share(backbone)
    vit.reset_classifier(CLASSES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return peft.get_peft_model(vit, config).to(next(backbone.parameters()).device)


def main():
    args = arguments(__doc__, "peftlab_vit_mini", batch_size=32, rounds=20).parse_args()
    backbone, x, y = random_problem(args)
    here = pick_precision("auto", x.device)
    lora = peft.LoraConfig(r=8, lora_alpha=8, target_modules=["qkv"], modules_to_save=["head"])
    ia3 = peft.IA3Config(target_modules=["qkv", "fc2"], feedforward_modules=["fc2"], modules_to_save=["head"])
    models = {  # name: (model, precision)
        "LoRA qkv, peftlab": (attach(backbone, "lora", CLASSES, targets=("qkv",)), here),
        "LoRA qkv, HF peft": (hf_model(backbone, lora), "fp32"),
        "LoRA qkv, HF peft" + SAME: (hf_model(backbone, lora), here),
        "LoRA q v, peftlab": (attach(backbone, "lora", CLASSES), here),
        "(IA)3, peftlab": (attach(backbone, "ia3", CLASSES, targets=("q", "k", "v", "ff")), here),
        "(IA)3, HF peft": (hf_model(backbone, ia3), "fp32"),
        "(IA)3, HF peft" + SAME: (hf_model(backbone, ia3), here),
    }
    trained = {name: sum(p.numel() for p in m.parameters() if p.requires_grad) for name, (m, _) in models.items()}
    for method in ("LoRA qkv", "(IA)3"):
        assert trained[f"{method}, peftlab"] == trained[f"{method}, HF peft"], "not the same method"
    memory = {
        name: (activation_bytes(m, x, y, precision) / MIB, peak_bytes(m, x, y, precision) / MIB)
        for name, (m, precision) in models.items()
    }
    steps = {name: training_step(m, x, y, precision=precision)[0] for name, (m, precision) in models.items()}
    frozen = attach(backbone, "linear", CLASSES)
    steps["floor: forward"] = forward_step(frozen, x, here)
    steps["floor: forward, input gradient"] = input_gradient_step(frozen, x, y, here)
    taken = paired(steps, args.rounds)

    print(setting(backbone, len(x), x.device) + f", {here} where nothing else is said")
    rows = [(name, 1000 * statistics.median(t), *memory.get(name, (None, None))) for name, t in taken.items()]
    table = pd.DataFrame(rows, columns=["", "median ms", "activation memory, MiB", "peak, MiB"]).set_index("")
    print(table.round(1).to_string(), "\n")
    ours = ("LoRA qkv, peftlab", "(IA)3, peftlab")
    theirs = [(name, name.replace("peftlab", "HF peft") + how) for name in ours for how in ("", SAME)]
    floors = [("LoRA q v, peftlab", name) for name in ("floor: forward", "floor: forward, input gradient")]
    for a, b in theirs + floors:
        low, middle, high = ratio(taken, a, b)
        note = f"; peak memory {memory[a][1] / memory[b][1]:.3f}" if b in memory else ""
        print(f"time of {a} / {b}: {middle:.3f} (quartiles {low:.3f} to {high:.3f}){note}")


if __name__ == "__main__":
    main()
