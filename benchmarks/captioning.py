"""A training step of a captioner: adapters by context beside adapters for all tokens, and all weights.

    python benchmarks/captioning.py

The embedded language model (1.6 M parameters) on captions of synthetic scenes, whose images are encoded beforehand.
Time in turns, as ratios within rounds; peak memory of a step and its arithmetic beside it.
"""

import argparse

import torch
from paired import paired, report
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from peftlab import load_backbone
from peftlab.analysis.costs import MIB, peak_bytes, training_step
from peftlab.captioning import Captioner, load_captions, load_language_model
from peftlab.training.precision import explicit_attention, pick_precision

WAYS = {
    "connector only": ("connector", {}),
    "LoRA, agnostic": ("context_peft", {"contexts": "one"}),
    "LoRA, agnostic, rank 16": ("context_peft", {"contexts": "one", "rank": 16}),
    "LoRA, by domain": ("context_peft", {"contexts": "domain"}),
    "all weights": ("full", {}),
}
BATCH = 16


class Words(nn.Module):
    """A captioner with fixed captions: patches -> logits of every word that is to be predicted."""

    def __init__(self, captioner, tokens, wanted):
        super().__init__()
        self.captioner, self.tokens, self.wanted = captioner, tokens, wanted

    def forward(self, patches):
        return self.captioner(patches, self.tokens)[self.wanted]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    vit, lm, scenes = load_backbone(), load_language_model(), load_captions()
    precision, models = pick_precision("auto", torch.device("cpu")), {}
    for way, (method, options) in WAYS.items():
        captioner = Captioner(vit, lm, method, grid=4, standardise=True, **options)
        tokens, labels = captioner.encode([each[0] for each in scenes.captions("train")[:BATCH]])
        patches, wanted = captioner.encode_images(scenes, "train", BATCH), labels >= 0
        models[way] = Words(captioner, tokens, wanted).train()
    y = labels[wanted]
    taken = paired(
        {way: training_step(m, patches, y, precision=precision)[0] for way, m in models.items()}, args.rounds
    )
    print(f"batches of {BATCH}, {torch.get_num_threads()} CPU threads, {precision}, torch {torch.__version__}")
    report(taken, [(way, "all weights") for way in WAYS if way != "all weights"])
    for way, model in models.items():
        with explicit_attention(model), FlopCounterMode(display=False) as counted:
            nn.functional.cross_entropy(model(patches), y).backward()
        memory = peak_bytes(model, patches, y, precision) / MIB
        print(f"{way}: peak {memory:.0f} MiB, {counted.get_total_flops() / 1e9 / BATCH:.3f} GFLOPs a caption")


if __name__ == "__main__":
    main()
