"""GIST looked at: what its token attends to, how it and CLS listen to each other, agree and differ."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..analysis.gist import token_cosine, token_exchange
from ..backbones.types import Pixels
from ..methods.core.model import PeftModel
from ..methods.gist import kl
from ..results.selection import HABITS, habits
from .style import FREE, PALETTE, axes_or_new

CLS, GIST = PALETTE[7], PALETTE[0]


def exchange(model: PeftModel, pixels: Pixels, ax: Axes | None = None) -> Axes:
    """`token_exchange` as lines; the dotted one is what attention spread evenly over all tokens would give -> Axes."""
    ax, table = axes_or_new(ax, (4.2, 3)), token_exchange(model, pixels)
    ax.plot(table.index, 100 * table["CLS to gist"], marker="o", color=CLS, label="CLS to gist")
    ax.plot(table.index, 100 * table["gist to CLS"], marker="s", color=GIST, label="gist to CLS")
    ax.plot(table.index, 100 * table["uniform"], ":", color="0.5", label="spread evenly")
    asked, most = table["gist to CLS"], table["gist to CLS"].idxmax()
    ax.set(xlabel="block", ylabel="attention (%)", ylim=(0, None))
    evenly = 100 * table["uniform"].max()
    ax.set_title(f"In block {most} the gist gives CLS {100 * asked.max():.0f} %\n(evenly: {evenly:.1f} %)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend()
    return ax


def cosine(models: Mapping[str, PeftModel], pixels: Pixels, ax: Axes | None = None) -> Axes:
    """Cosine of both tokens through depth, a line for each of {label: model}, +- one std over images -> Axes."""
    ax, ends = axes_or_new(ax, (4.2, 3)), []
    for i, (label, model) in enumerate(models.items()):
        table, color = token_cosine(model, pixels), (CLS, GIST, *PALETTE[1:])[i]
        ax.plot(table.index, table["cosine"], marker="os^v"[i % 4], color=color, label=label)
        low, high = table["cosine"] - table["std"], table["cosine"] + table["std"]
        ax.fill_between(table.index, low, high, color=color, alpha=0.2, linewidth=0)
        ends.append(f"{label} {table['cosine'].iloc[-1]:.2f}")
    ax.set(xlabel="block", ylabel="cosine of CLS and gist")
    ax.set_title(f"Behind the last block the tokens\nhave a cosine of: {', '.join(ends)}")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend()
    return ax


def branches(curves: pd.DataFrame) -> Figure:
    """How often each branch is right in training, how often both agree, and both KLs, over epochs -> Figure.

    curves: of a run of `gist`, a row an epoch.
    """
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    (left, right), last = axes, curves.iloc[-1]
    left.plot(curves["epoch"], 100 * curves["accuracy"], marker="o", color=CLS, label="CLS is right")
    left.plot(curves["epoch"], 100 * curves["gist_accuracy"], marker="s", color=GIST, label="gist is right")
    left.plot(curves["epoch"], 100 * curves["agreement"], "--", color="black", label="both say the same")
    left.set(ylabel="training images (%)", ylim=(0, 102))
    left.set_title(f"Two answers become one: {100 * last['agreement']:.0f} % the same")
    right.plot(curves["epoch"], curves["kl_cls_gist"], marker="o", color=CLS, label="KL(CLS || gist)")
    right.plot(curves["epoch"], curves["kl_gist_cls"], "--", marker="s", color=GIST, label="KL(gist || CLS)")
    right.set(ylabel="nats", ylim=(0, None))
    first = curves.iloc[0]
    right.set_title(f"The KLs: {first['kl_cls_gist']:.3f} nats at first, {last['kl_cls_gist']:.3f} in the end")
    for ax, place in zip(axes, ("lower right", "upper right"), strict=True):
        ax.set(xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.legend(loc=place)
    return figure


def shares(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Share of attention inside objects, a row a model and query, with its interval over images -> Axes.

    table: rows of results/attention.csv, of one set of images and one task of training. Seeds of one source stand in
    one row. Dotted: the objects' share of the images, which attention spread evenly would give.
    """
    names = table["source"].str.replace(r", seed \d+", "", regex=True)
    order = list(dict.fromkeys(names))
    ax = axes_or_new(ax, (5.6, 0.9 + 0.36 * len(order)))
    for name, row in zip(names, table.to_dict("records"), strict=True):
        y, color = order.index(name), GIST if name == "gist" else PALETTE[1] if "alone" in name else FREE
        ax.plot([100 * row["low"], 100 * row["high"]], [y, y], color=color, linewidth=2)
        ax.plot(100 * row["share"], y, "o", color=color, markersize=7)
    first = table.iloc[0]
    ax.axvline(100 * first["area"], color="0.5", linestyle=":")
    ax.text(100 * first["area"], -0.75, " spread evenly", color="0.4", va="center")
    ax.set_yticks(range(len(order)), order)
    ax.set(xlabel="attention on the objects (%)", ylim=(len(order) - 0.5, -1.2))
    gist, frozen = (100 * table.set_index("source")["share"][name] for name in ("gist", "CLS, frozen"))
    ax.set_title(f"Trained on {first['trained on']}:\ngist {gist:.0f} %, frozen CLS {frozen:.0f} %")
    return ax


def kl_shapes(p_cls: float = 0.9, ax: Axes | None = None) -> Axes:
    """Both KLs and their sum for two classes: CLS gives the first one p_cls, the gist anything from 0 to 1 -> Axes.

    >>> ax = kl_shapes(0.5)
    >>> [line.get_label() for line in ax.lines[:3]], ax.get_title()
    (['KL(CLS || gist)', 'KL(gist || CLS)', 'both'], 'CLS gives the first class 0.5')
    """
    ax, p_gist = axes_or_new(ax, (4.6, 3)), torch.linspace(0.005, 0.995, 199, dtype=torch.float64)
    cls, gist = (torch.stack([p.log(), (1 - p).log()], -1) for p in (torch.full_like(p_gist, p_cls), p_gist))
    forward = torch.stack([kl(c[None], g[None], temperature=1) for c, g in zip(cls, gist, strict=True)])
    backward = torch.stack([kl(g[None], c[None], temperature=1) for c, g in zip(cls, gist, strict=True)])
    ax.plot(p_gist, forward, color=CLS, label="KL(CLS || gist)")
    ax.plot(p_gist, backward, "--", color=GIST, label="KL(gist || CLS)")
    ax.plot(p_gist, forward + backward, ":", color="black", label="both")
    ax.axvline(p_cls, color="0.8", linewidth=1, zorder=0)
    ax.set(xlabel="gist's probability of the first class", ylabel="nats", ylim=(0, 4))
    ax.set_title(f"CLS gives the first class {p_cls:g}")
    ax.legend()
    return ax


def by_epoch(table: pd.DataFrame, pairs: Mapping[str, str]) -> Figure:
    """Test accuracy after every epoch, of methods and of GIST around them: {label of one: of the other} -> Figure.

    table: a sweep's rows by epoch, as `read_results("strength_epochs")`. A panel a pair and task; thin lines are runs,
    whose rings are at their best epochs on test, which some released code reports; marks are means over seeds.
    """
    tasks = list(table["task"].unique())
    reported = 100 * habits(table).groupby(["habit", "label", "task"])["test_accuracy"].mean()
    size = (3.6 * len(tasks), 2.9 * len(pairs))
    figure, axes = plt.subplots(len(pairs), len(tasks), figsize=size, sharex=True, squeeze=False, layout="constrained")
    for row, (base, gist) in zip(axes, pairs.items(), strict=True):
        for ax, task in zip(row, tasks, strict=True):
            for label, color, marker in ((base, CLS, "o"), (gist, GIST, "s")):
                runs = 100 * table.query("label == @label and task == @task").pivot(
                    index="epoch", columns="seed", values="test_accuracy"
                )
                ax.plot(runs, color=color, linewidth=1, alpha=0.5)
                ax.plot(runs.idxmax(), runs.max(), "o", color=color, markersize=11, markerfacecolor="none")
                ax.plot(runs.mean(axis=1), color=color, marker=marker, markersize=4, label=label)
            last, best = (reported[habit, gist, task] - reported[habit, base, task] for habit in HABITS[:2])
            ax.set_title(f"{task}: last {last:+.1f}, best {best:+.1f}")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        row[0].set_ylabel("test accuracy (%)")
        row[-1].legend(loc="lower right")
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
    return figure
