"""What GIST adds to a training step of its host, and how much of that is the price of one more token.

    python benchmarks/gist_overhead.py [--backbone vit_base_patch16_224] [--batch-size 4] [--rounds 10] [--host lora]

Three steps in turns: the host; the host with one more token that only sits there (no second answer, no KL); GIST with
its own loss. Ratios are formed within each round; median and quartiles over rounds are printed.
"""

import torch.nn.functional as F
from paired import CLASSES, arguments, paired, random_problem, report, setting

from peftlab.costs import training_step
from peftlab.methods import attach


def cls_alone(model, x, y):
    """What the host minimises: the second answer is neither computed nor scored."""
    return F.cross_entropy(model(x), y)


def main():
    parser = arguments(__doc__, batch_size=4)
    parser.add_argument("--host", default="lora")
    args = parser.parse_args()
    backbone, x, y = random_problem(args)
    host = attach(backbone, args.host, CLASSES).train()
    gist, idle = (attach(backbone, "gist", CLASSES, host=args.host).train() for _ in range(2))
    steps = {
        "host": training_step(host, x, y)[0],
        "host, one more token": training_step(idle, x, y, cls_alone)[0],
        "GIST": training_step(gist, x, y)[0],
    }
    taken = paired(steps, args.rounds)
    print(setting(backbone, args.batch_size, x.device) + f", host {args.host}")
    report(taken, [("host, one more token", "host"), ("GIST", "host, one more token"), ("GIST", "host")])


if __name__ == "__main__":
    main()
