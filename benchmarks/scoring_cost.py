"""What finding the important channels costs, in units of one training epoch of stage 1.

    python benchmarks/scoring_cost.py [--backbone vit_base_patch16_224] [--batch-size 8] [--batches 2] [--rounds 5]

Both see the same images in the same batches; scoring is one forward and one backward pass to the activations, without
an optimizer step. Ratios are formed within each round; median and quartiles over rounds are printed.
"""

from paired import CLASSES, arguments, paired, random_problem, report, setting

from peftlab.analysis.costs import training_step
from peftlab.methods import attach
from peftlab.methods.core.importance import channel_scores


def main():
    parser = arguments(__doc__, batch_size=8)
    parser.add_argument("--batches", type=int, default=2, help="in an epoch")
    args = parser.parse_args()
    backbone, x, y = random_problem(args)
    model = attach(backbone, "norm", CLASSES)
    step = training_step(model, x, y)[0]

    def epoch():
        model.train()
        for _ in range(args.batches):
            step()

    def scoring():
        channel_scores(model.vit, [(x, y)] * args.batches)

    taken = paired({"epoch of stage 1": epoch, "scoring": scoring}, args.rounds)
    print(setting(backbone, args.batch_size, x.device) + f", {args.batches} batches")
    report(taken, [("scoring", "epoch of stage 1")])


if __name__ == "__main__":
    main()
