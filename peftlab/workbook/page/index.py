"""The index page: a card for each notebook, with what it is for, a picture and how its run went."""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from nbformat import NotebookNode
from PIL import Image

from ..math import markdown_to_html
from .cells import tags, title
from .provenance import read_commit
from .render import TEMPLATES, own_pages


def objective(nb: NotebookNode) -> str:
    """The first paragraph of prose, with the list it may introduce (Markdown): by convention, what we are here for."""
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            blocks = re.split(r"\n\s*\n", re.sub(r"^#.*\n?", "", cell.source, flags=re.M).strip())
            for block, after in zip(blocks, [*blocks[1:], ""], strict=True):
                if block and block[0] not in "<!|-`>$":
                    return f"{block}\n\n{after}" if re.match(r"\s*([-*]|1\.)\s", after) else block
    return ""


def thumbnail(nb: NotebookNode, size: tuple[int, int] = (720, 420)) -> str | None:
    """The last picture of a cell tagged `thumbnail`, else of the notebook, made small: base64 PNG or None."""
    pictures = [
        (("thumbnail" in tags(cell)), output.data["image/png"])
        for cell in nb.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    if not pictures:
        return None
    chosen = next((png for tagged, png in reversed(pictures) if tagged), pictures[-1][1])
    image = Image.open(io.BytesIO(base64.b64decode(chosen))).convert("RGB")
    image.thumbnail(size)
    small = io.BytesIO()
    image.save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def card(name: str, nb: NotebookNode, record: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What `index.html` shows of one notebook; without a record it was not run."""
    return {
        "name": name,
        "title": title(nb, name),
        "objective": markdown_to_html(objective(nb)),
        "record": record,
        "thumbnail": record and thumbnail(nb),
        "pages": own_pages(name, nb) if record else {},
    }


def render_index(cards: Sequence[Mapping[str, Any]], environment: str, command: str, api: bool = False) -> str:
    """The HTML of the index page. api: whether there is an API reference to link to, at api/index.html."""
    records = [c["record"] for c in cards if c["record"]]
    return TEMPLATES.get_template("index.html").render(
        cards=cards,
        seconds=sum(r["seconds"] for r in records),
        ok=sum(r["status"] == "ok" for r in records),
        failed=sum(r["status"] == "failed" for r in records),
        fast=any(r["profile"] == "fast" for r in records),
        environment=environment,
        commits=sorted({read_commit(r.get("commit", "")) for r in records}),
        command=command,
        api=api,
    )
