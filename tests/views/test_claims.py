"""The picture of claims shows every difference with its intervals, and verdicts by mark and by name."""

import numpy as np
import pandas as pd

from peftlab.analysis.claims import ALONE, VERDICTS
from peftlab.views.claims import MARKS, contrasts

ROWS = [
    {"of": "a", "than": "b", "difference": 2.0, "low": 1.0, "high": 3.0, "images": 0.5, "verdict": VERDICTS[0]},
    {"of": "c", "than": "d", "difference": -2.0, "low": -3.0, "high": -1.0, "images": 0.5, "verdict": VERDICTS[1]},
    {"of": "e", "than": "f", "difference": 0.25, "low": -1.0, "high": 1.0, "images": np.nan, "verdict": VERDICTS[2]},
    {"of": "g", "than": "h", "difference": 0.5, "low": np.nan, "high": np.nan, "images": np.nan, "verdict": ALONE},
]


def test_rows_marks_and_names():
    ax = contrasts(pd.DataFrame(ROWS).assign(expected=["better", "better", "equal", "better"]))
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "a against b",
        "c against d",
        "e against f (equal?)",
        "g against h",
    ]
    marks = {line.get_ydata()[0]: line for line in ax.lines if len(line.get_xdata()) == 1}
    assert [marks[y].get_marker() for y in range(4)] == [*MARKS.values(), "o"]
    assert [marks[y].get_xdata()[0] for y in range(4)] == [row["difference"] for row in ROWS]
    spans = [sorted(line.get_xdata()) for line in ax.lines if len(line.get_xdata()) == 2 and line.get_ydata()[0] == 0]
    assert spans[:2] == [[1.5, 2.5], [1.0, 3.0]]
    texts = [text.get_text() for text in ax.texts]
    assert texts[0] == f"+2.0  {VERDICTS[0]}" and texts[3] == f"+0.5  {ALONE}"  # as many digits in every row
    small = contrasts(pd.DataFrame(ROWS[2:]).assign(expected="better"))
    assert [text.get_text() for text in small.texts] == [f"+0.25  {VERDICTS[2]}", f"+0.50  {ALONE}"]
    assert ax.get_title() == "Of 4 differences 1 support the claim, 1 contradict it, 2 are open"
