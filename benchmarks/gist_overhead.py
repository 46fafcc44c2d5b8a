"""What GIST adds to a training step of its base method, and how much of that is the price of one more token.

    python benchmarks/gist_overhead.py [--backbone vit_base_patch16_224] [--batch-size 4] [--rounds 10]
                                      [--base-method lora]

Three steps in turns: the base method; the base method with one more token that only sits there (no second answer, no
KL); GIST with its own loss. Ratios are formed within each round; median and quartiles over rounds are printed.
"""

import torch.nn.functional as F
from paired import CLASSES, arguments, paired, random_problem, report, setting

from peftlab.analysis.costs import training_step
from peftlab.methods import attach


def cls_alone(model, x, y):
    """What the base method minimises: the second answer is neither computed nor scored."""
    return F.cross_entropy(model(x), y)


def main():
    parser = arguments(__doc__, batch_size=4)
    parser.add_argument("--base-method", default="lora")
    args = parser.parse_args()
    backbone, x, y = random_problem(args)
    base = attach(backbone, args.base_method, CLASSES).train()
    gist, idle = (attach(backbone, "gist", CLASSES, base_method=args.base_method).train() for _ in range(2))
    steps = {
        "base method": training_step(base, x, y)[0],
        "base method, one more token": training_step(idle, x, y, cls_alone)[0],
        "GIST": training_step(gist, x, y)[0],
    }
    taken = paired(steps, args.rounds)
    print(setting(backbone, args.batch_size, x.device) + f", base method {args.base_method}")
    idle_name = "base method, one more token"
    report(taken, [(idle_name, "base method"), ("GIST", idle_name), ("GIST", "base method")])


if __name__ == "__main__":
    main()
