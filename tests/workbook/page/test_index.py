"""What the index shows of a notebook."""

from base64 import b64encode
from io import BytesIO

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

from peftlab.workbook.page.index import objective, thumbnail


@pytest.mark.parametrize(
    "text, expected",
    [
        ("# 00 A\n\nWhat for.\n\nMore.", "What for."),
        (
            "# 00 A\n\n> quote\n\n**Objectives.** You can\n\n- see\n- say\n\nMore.",
            "**Objectives.** You can\n\n- see\n- say",
        ),
        ("# 00 A", ""),
    ],
)
def test_objective_is_the_first_paragraph_with_its_list(text, expected):
    assert objective(new_notebook(cells=[new_markdown_cell(text)])) == expected


def test_thumbnail_prefers_the_tagged_cell():
    def picture(color):
        png = BytesIO()
        Image.new("RGB", (900, 900), color).save(png, "PNG")
        data = {"image/png": b64encode(png.getvalue()).decode()}
        return [nbformat.v4.new_output("display_data", data)]

    tagged = new_code_cell(outputs=picture("red"), metadata={"tags": ["thumbnail"]})
    nb = new_notebook(cells=[tagged, new_code_cell(outputs=picture("blue"))])
    red = thumbnail(nb)
    tagged.metadata.tags = []
    nb = new_notebook(cells=[tagged, new_code_cell(outputs=picture("blue"))])
    assert red and red != thumbnail(nb)
    assert thumbnail(new_notebook()) is None
