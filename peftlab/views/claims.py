"""Claims of papers as a picture: our differences, their intervals and what follows from them."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ..analysis.claims import VERDICTS
from .style import PALETTE, axes_or_new

MARKS = dict(zip(VERDICTS, ("D", "v", "o"), strict=True))  # told apart by form, too
COLORS = dict(zip(VERDICTS, (PALETTE[2], PALETTE[1], "0.45"), strict=True))


def contrasts(
    judged: pd.DataFrame, unit: str = "points of test accuracy, first less second", ax: Axes | None = None
) -> Axes:
    """Differences that speak to claims, a row each -> Axes. judged: from `analysis.claims.judge`.

    Thin lines are intervals over tasks, wide pale ones those over test images; marks say supported
    (diamond), contradicted (triangle) or open (circle).
    """
    rows = judged.to_dict("records")
    names = [f"{row['of']} against {row['than']}{' (equal?)' * (row['expected'] == 'equal')}" for row in rows]
    digits = 1 if judged["difference"].abs().max() >= 1 else 2
    ax = axes_or_new(ax, (5.8 + 0.07 * max(map(len, names)), 0.36 * len(rows) + 1.2))
    for y, row in enumerate(rows):
        size, color = row["difference"], COLORS.get(row["verdict"], COLORS[VERDICTS[2]])
        if not np.isnan(row["images"]):
            span = [size - row["images"], size + row["images"]]
            ax.plot(span, [y, y], color=color, alpha=0.25, linewidth=9, solid_capstyle="butt")
        ax.plot([row["low"], row["high"]], [y, y], color=color, linewidth=2)
        ax.plot(size, y, MARKS.get(row["verdict"], "o"), color=color, markersize=8)
        ax.text(1.01, y, f"{size:+.{digits}f}  {row['verdict']}", transform=ax.get_yaxis_transform(), va="center")
    ax.axvline(0, color="0.3", linewidth=1)
    ax.set_yticks(range(len(rows)), names)
    ax.set(ylim=(len(judged) - 0.5, -0.5), xlabel=unit)
    supported, against = (judged["verdict"].eq(verdict).sum() for verdict in VERDICTS[:2])
    open_ones = len(judged) - supported - against
    ax.set_title(
        f"Of {len(judged)} differences {supported} support the claim, {against} contradict it, {open_ones} are open"
    )
    return ax
