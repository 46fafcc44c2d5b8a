"""One piece of a page: data, the script that draws them, and a picture for paper and for pages without scripts."""

import io
import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from ...common.errors import PeftlabError
from .packing import drawing, picture_url

LARGEST = 2_000_000  # characters: pages are mailed, and opened on phones


def part(data: dict[str, Any], strip: Figure, says: str, script: str, styles: Sequence[str]) -> str:
    """HTML that needs nothing else; `script` and `styles` are files of this folder, and common.js is put before.

    strip: closed, as `drawing` does. says: the alternative text of the strip. Raises PeftlabError where all of it is
    larger than a page should be.
    JupyterLab's shortcuts are kept off, for it would take the arrow keys.
    """
    packed = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    css = "".join(map(_asset, styles))
    html = (
        f'<div class="peftlab-explorer"><style>{_asset("strip.css")}</style>'
        f'<div class="peftlab-live" data-lm-suppress-shortcuts="true" data-css="{escape(css)}"></div>'
        f'<img alt="{escape(says)}" class="peftlab-strip" src="{picture_url(drawing(strip))}"/>'
        f'<script type="application/json">{packed}</script>'
        f'<script>(() => {{"use strict";\n{_asset("common.js")}{_asset(script)}}})();</script></div>'
    )
    if len(html) > LARGEST:
        raise PeftlabError(
            f"{data['title']}: the explorer would take {len(html) / 1e6:.1f} MB, a page takes {LARGEST / 1e6:.0f}. "
            "Give it fewer images, models or blocks"
        )
    return html


def svg(figure: Figure) -> str:
    """A figure of few lines as SVG, sharp at every size; its texts stay texts. The figure is closed."""
    buffer = io.StringIO()
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "peftlab"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return buffer.getvalue()


def _asset(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")
