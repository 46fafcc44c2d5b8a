"""A small executed notebook, with the record of its run, for the tests of pages."""

import base64
import io
import re
from urllib.parse import unquote

import pandas as pd
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

RECORD = {
    "name": "00_a",
    "title": "00 A",
    "status": "ok",
    "seconds": 1.5,
    "profile": "fast",
    "date": "2025-01-01 00:00 UTC",
    "environment": "torch 2",
    "error": "",
    "commit": "0123456789ab-dirty",
    "used": [["task", "dtd", "2279d92aac21"], ["backbone", "<mini>", "f3a2d41c5e66"]],
}
TABLE = pd.DataFrame({"µ, in %": [1.5, 2.5]}, index=["<lora>", "vpt"])


def picture(width=600, height=300):
    png = io.BytesIO()
    Image.effect_noise((width, height), 60).save(png, "PNG")
    data = {"image/png": base64.b64encode(png.getvalue()).decode()}
    return new_output("display_data", data, metadata={"image/png": {"alt": "Noise."}})


def executed():
    """An executed notebook with each kind of cell."""
    answer = new_output("stream", text="a.1: not answered yet. Replace the ... by your answer.\n")
    cells = [
        new_markdown_cell("# 00 A\n\nWhy.\n\n## 1 What is $r$?\n\n### A `rank`"),
        new_code_cell("show()", outputs=[picture()]),
        new_code_cell("table", outputs=[new_output("execute_result", {"text/html": TABLE._repr_html_()})]),
        new_markdown_cell("## 2 Then\n\nProse stays.\n\n### Exercise 1: count\n\n*Easy, 3 minutes.* Count."),
        new_code_cell('answer = ...\npl.check("a.1", answer);', outputs=[answer]),
        new_markdown_cell(
            "<details><summary>Solution</summary>\n\n```python\nanswer = 7\n```\n</details>\n\nAfter it."
        ),
        new_markdown_cell("## Summary\n\n- One.\n\n<details><summary>More</summary>\n\nFolded away.\n</details>"),
    ]
    nb = new_notebook(cells=cells, metadata={"papermill": {"parameters": {"task": "<dtd>", "seed": 3}}})
    nb.metadata["peftlab"] = dict(RECORD)
    return nb


LESSON = executed()


def visible(html):
    """What a reader can see of a page: no markup, no styles."""
    return re.sub(r"<[^>]+>", "", re.sub(r"(?s)<style.*?</style>", "", html))


def saved(html, kind):
    """What the data links of a kind hold."""
    return [unquote(text) for text in re.findall(rf'href="data:{re.escape(kind)};charset=utf-8,([^"]*)"', html)]
