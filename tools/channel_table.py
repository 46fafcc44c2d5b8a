"""Make results/channels.csv: the accuracy of a run of stage 1 without one channel of its residual stream.

    PEFTLAB_DATA=.. python tools/channel_table.py

The shipped norm run of clevr_count, at 112 px. In each block the channels with the highest Taylor scores, from 128
training images, and others drawn at random as the control; each alone is set to zero, or to its mean over the training
images, in the residual stream after attention. Accuracy is on test images that neither run nor scores have seen;
nothing is selected by it. Half an hour on one CPU core.
"""

import pandas as pd
import torch
from two_stage_tables import IMAGES, batches, images, means, real

from peftlab import load_run
from peftlab.analysis.two_stage import accuracy_without
from peftlab.backbones.stages import run_stages
from peftlab.common.files import write_text
from peftlab.common.paths import REPOSITORY
from peftlab.common.progress import progress
from peftlab.methods.core.importance import channel_scores
from peftlab.training.precision import computing, pick_device, pick_precision

OUT = REPOSITORY / "results" / "channels.csv"
TASK, TOP, RANDOM, TESTED = "clevr_count", 6, 2, 500


def chosen(scores, seed):
    """{channel: which choice it is of} for the scores [D] of a block: the highest, then others at random."""
    order = scores.argsort(descending=True, stable=True)
    rest = order[TOP:][torch.randperm(len(order) - TOP, generator=torch.Generator().manual_seed(seed))[:RANDOM]]
    return {int(c): "top" for c in order[:TOP]} | {int(c): "random" for c in rest}


@torch.no_grad()
def rows():
    vit, task = load_run(f"{TASK}-norm").model.vit.eval(), real(TASK)
    x, y = images(vit, task, "train800", list(range(min(IMAGES, task.size("train800")))))
    scores, mean = channel_scores(vit, batches(x, y)), means(vit, x)
    x, y = images(vit, task, "test", list(range(min(TESTED, task.size("test")))))
    device = pick_device("cpu")

    def accuracy(tokens, block, channels, values=0.0):
        with computing(vit, device, pick_precision("auto", device)):
            return accuracy_without(vit, tokens, y, block, channels, values)

    tokens = run_stages(vit, x, stop=1)
    whole = accuracy(tokens, 0, [])
    for block in progress(range(len(vit.blocks)), desc=TASK, unit="block"):
        ranks = scores[block].argsort(descending=True, stable=True).argsort() + 1
        for channel, choice in chosen(scores[block], block).items():
            row = {"task": TASK, "block": block + 1, "channel": channel, "choice": choice}
            row |= {"score": scores[block, channel].item(), "rank": ranks[channel].item(), "whole": whole}
            row["at_zero"] = accuracy(tokens, block, [channel])
            row["at_mean"] = accuracy(tokens, block, [channel], mean[block][:, [channel]])
            yield row | {"images": len(y)}
        tokens = run_stages(vit, tokens, start=1 + block, stop=2 + block)


if __name__ == "__main__":
    found = []
    for row in rows():
        found.append(row)
        write_text(OUT, pd.DataFrame(found).round({"score": 8}).to_csv(index=False))
