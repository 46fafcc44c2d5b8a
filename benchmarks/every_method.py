"""A training step of every method against the least that any method can cost: the floor.

    python benchmarks/every_method.py --batch-size 64
    python benchmarks/every_method.py --backbone peftlab_vit_small --img-size 112

The floor is a forward pass with a backward pass to the tokens that enter the first block, in the same precision: a
method that changes the first block has to make both. Methods that change less (`linear`) can cost less. Of a method
with two stages the second is measured. Steps are taken in turns and ratios formed within each round; median and
quartiles over rounds are printed.
"""

import torch
from paired import CLASSES, arguments, input_gradient_step, paired, random_problem, report, setting

from peftlab.analysis.costs import trained_stages, training_step
from peftlab.methods import METHODS, attach
from peftlab.training.precision import pick_precision

FLOOR = "floor"


def main():
    args = arguments(__doc__, "peftlab_vit_mini", batch_size=32, rounds=20).parse_args()
    backbone, x, y = random_problem(args)
    precision = pick_precision("auto", x.device)
    models = {name: trained_stages(attach(backbone, name, CLASSES), x, y)[-1].train() for name in METHODS}
    steps = {name: training_step(model, x, y, precision=precision)[0] for name, model in models.items()}
    frozen = attach(backbone, "linear", CLASSES)
    steps[FLOOR] = input_gradient_step(frozen.requires_grad_(False), x, y, precision)
    taken = paired(steps, args.rounds)
    print(setting(backbone, args.batch_size, x.device) + f", {precision}, torch {torch.__version__}")
    report(taken, [(name, FLOOR) for name in METHODS])


if __name__ == "__main__":
    main()
