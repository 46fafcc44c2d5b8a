"""Colours of a page: their contrast."""

import re
from pathlib import Path

import pytest

from peftlab.workbook.page import render

ON_PAPER = ("ink", "soft", "blue", "red", "green", "text", "number", "comment", "name", "yellow")
PAIRS = [(ink, ground) for ink in ON_PAPER for ground in ("paper", "wash")] + [
    ("ink", "amber"),
    ("ink", "rose"),
    ("ink", "marked"),
    ("red", "rose"),
]


def colours(file, scheme):
    css = (Path(render.__file__).parents[1] / "templates" / file).read_text()
    root = re.search(r":root \{(.*?)\}", css.partition("color-scheme: dark")[2] if scheme == "dark" else css, re.S)[1]
    return dict(re.findall(r"--(\w+): (#\w+)", root))


def luminance(colour):
    """Relative luminance as WCAG 2 defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (b / 255 for b in bytes.fromhex(digits))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("file", "scheme"), [("report.css", "light"), ("page.css", "dark")])
def test_text_has_the_contrast_of_wcag_aa(file, scheme):
    found = colours(file, scheme)
    assert set(found) == set(colours("report.css", "light")), "every colour has its value in both schemes"
    low = {}
    for ink, ground in PAIRS:
        dark, light = sorted((luminance(found[ink]), luminance(found[ground])))
        if (ratio := (light + 0.05) / (dark + 0.05)) < 4.5:
            low[ink, ground] = round(ratio, 2)
    assert low == {}
