"""Both stages judged: how far stage 1 moves a task; what removing channels costs, and how far two choices agree."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from scipy.stats import spearmanr
from torch import Tensor

from ..backbones.stages import run_stages
from ..backbones.types import Labels, Tokens, ViT
from ..common.tensors import read_tensors
from ..methods.core.importance import choose, places
from ..methods.core.model import PeftModel
from ..results.published import FOLDER, read_results
from ..training.evaluate import EVAL_BATCH
from .changes import named_norms, norm_change

Scores = Float[Tensor, "blocks channels"]


@torch.no_grad()
def accuracy_without(
    vit: ViT,
    tokens: Tokens,
    labels: Labels,
    block: int,
    channels: Sequence[int] | Int64[Tensor, " _"],
    values: float | Float[Tensor, "tokens chosen"] = 0.0,
) -> float:
    """Top-1 in [0, 1] when channels of the residual stream after a block's attention are set to 0, or to values.

    vit: with its head. tokens: what the block reads, `run_stages(vit, x, stop=1 + block)`. Nothing is trained again.
    """

    def remove(module: torch.nn.Module, args: tuple[Tensor]) -> None:  # in place: the skip path carries this tensor
        args[0][..., channels] = torch.as_tensor(values, dtype=args[0].dtype, device=args[0].device)

    hook = places(vit)[block].module.register_forward_pre_hook(remove)
    try:
        logits = [run_stages(vit.eval(), part, start=1 + block) for part in tokens.split(EVAL_BATCH)]
    finally:
        hook.remove()
    return (torch.cat(logits).argmax(1) == labels).double().mean().item()


def norm_steps(model: PeftModel) -> pd.DataFrame:
    """How far training moved each LayerNorm, in two units -> DataFrame, a row a norm.

    Columns: changes of gamma and of beta relative to their own sizes, as `norm_change` has them, and beta's relative
    to the size of gamma. What is read is gamma x + beta with x of deviation 1, so that gamma's change and the last are
    in one unit there: deviations of what is read.
    """
    table = norm_change(model).rename(columns={"gamma": "gamma / its size", "beta": "beta / its size"})
    norms = named_norms(model.backbone).values()
    ratio = [(norm.bias.norm() / norm.weight.norm()).item() for norm in norms]
    return table.assign(**{"beta / gamma's size": table["beta / its size"] * ratio})


def jaccard(chosen: Mapping[str, Sequence[int] | Int64[Tensor, " _"]]) -> pd.DataFrame:
    """Overlap |A and B| / |A or B| of every two index sets; labels in rows and columns.

    >>> jaccard({"a": [0, 1, 2], "b": [2, 3]}).loc["a", "b"].item()
    0.25
    """
    sets = {label: set(np.asarray(indices).tolist()) for label, indices in chosen.items()}
    table = [[len(a & b) / max(len(a | b), 1) for b in sets.values()] for a in sets.values()]
    return pd.DataFrame(table, index=list(sets), columns=list(sets))


def recorded_scores() -> dict[str, Float[Tensor, "2 blocks channels"]]:
    """Taylor scores of real tasks from results/importance.safetensors, two disjoint halves of each: {task: scores}.

    >>> scores = recorded_scores()
    >>> len(scores), tuple(scores["clevr_count"].shape)
    (8, (2, 12, 384))
    """
    return read_tensors(FOLDER / "importance.safetensors")[0]


def top_share(scores: Float[Tensor, "*places channels"], k: int) -> Float[Tensor, "*places"]:
    """The share of the k highest channels in the sum of all scores of their place.

    >>> top_share(torch.tensor([[6.0, 1.0, 3.0], [1.0, 1.0, 2.0]]), 1)
    tensor([0.6000, 0.5000])
    """
    return scores.topk(k, dim=-1)[0].sum(-1) / scores.sum(-1)


def agreement(scores: Mapping[str, Float[Tensor, "2 blocks channels"]], k: int) -> pd.DataFrame:
    """How two scores agree, by block: halves of one task, and halves of every two tasks -> DataFrame.

    Columns: pair, same (task), block (from 1), rank (Spearman's correlation over channels), overlap (`jaccard` of the
    k highest). Of two tasks, the first half of one is held against the second of the other, as within a task.
    """
    pairs = [(task, task) for task in scores] + list(combinations(scores, 2))
    rows = []
    for one, other in pairs:
        first, second = scores[one][0], scores[other][1]
        tops = zip(choose(first, k), choose(second, k), strict=True)
        for block, (a, b) in enumerate(tops):
            rank = spearmanr(first[block], second[block]).statistic
            row = {"pair": f"{one}, {other}", "same": one == other, "block": block + 1, "rank": float(rank)}
            rows.append(row | {"overlap": jaccard({"a": a, "b": b}).loc["a", "b"]})
    return pd.DataFrame(rows)


def shift_and_gain() -> pd.DataFrame:
    """How far stage 1 moved tasks, and what it gained, measured at strength -> DataFrame, a row a task and length.

    From `results/shift.csv` and `results/strength_shift.csv`, with columns task, epochs (0: frozen), distance (to
    photographs, mean over blocks and groups of images) and gain (points of test accuracy over the linear probe of
    `results/strength.csv`, its mean over seeds).
    """
    distance = read_results("shift").groupby(["task", "epochs"])["distance"].mean()
    probe = read_results("strength").query("label == 'linear' and train_split == 'train800val200'")
    runs = read_results("strength_shift").set_index(["task", "epochs"])["test_accuracy"]
    gain = 100 * runs.sub(probe.groupby("task")["test_accuracy"].mean(), level="task")
    return pd.DataFrame({"distance": distance, "gain": gain}).fillna({"gain": 0.0}).reset_index()
