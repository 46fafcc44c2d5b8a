"""What generating weights costs: a training step of GIFT against LoRA's, and inference after merging.

    python benchmarks/gift_overhead.py [--backbone vit_base_patch16_224] [--batch-size 8] [--rounds 10] [--rank 16]

All three change the same layers (the output projection of attention) at the same rank. GIFT's generator runs once a
step, so its share falls with the batch size. Ratios are formed within each round; median and quartiles are printed.
"""

from paired import CLASSES, arguments, forward_step, paired, random_problem, report, setting

from peftlab.analysis.costs import training_step
from peftlab.methods import attach


def main():
    parser = arguments(__doc__, batch_size=8)
    parser.add_argument("--rank", type=int, default=16)
    args = parser.parse_args()
    backbone, x, y = random_problem(args)
    methods = {"LoRA": ("lora", {"targets": ("o",)}), "GIFT": ("gift", {}), "GIFT (linear)": ("gift_linear", {})}
    models = {
        label: attach(backbone, name, CLASSES, rank=args.rank, **options).train()
        for label, (name, options) in methods.items()
    }
    steps = {label: training_step(model, x, y)[0] for label, model in models.items()}
    steps |= {"plain, inference": forward_step(attach(backbone, "linear", CLASSES).merge(), x)}
    steps |= {"GIFT merged, inference": forward_step(models["GIFT"].merge(), x)}
    taken = paired(steps, args.rounds)
    print(setting(backbone, args.batch_size, x.device) + f", rank {args.rank} on the output projection")
    report(
        taken,
        [("GIFT", "LoRA"), ("GIFT (linear)", "LoRA"), ("GIFT merged, inference", "plain, inference")],
    )


if __name__ == "__main__":
    main()
