"""Pages: one alone, one of a single output; how they say times."""

import pytest
from lesson import RECORD
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from peftlab.workbook.page.index import card, render_index
from peftlab.workbook.page.render import duration, own_pages, render_page


def test_a_page_alone_leads_nowhere_and_hides_its_code():
    nb = new_notebook(cells=[new_markdown_cell("# A"), new_code_cell("1")])
    html, usual = (render_page(nb, RECORD | {"profile": "full"}, alone=alone) for alone in (True, False))
    assert 'href="index.html"' in usual and "profile: full" in usual and 'id="hide-code">' in usual
    assert 'href="index.html"' not in html and "profile:" not in html and 'id="hide-code" checked>' in html


def test_an_output_gets_a_page_of_its_own():
    cell = new_code_cell("walk()", metadata={"tags": ["page-walk"]})
    picture = '<img alt="Steps." src="data:image/png;base64,iVBO"/>'
    cell.outputs = [new_output("display_data", {"text/html": picture, "text/plain": "Steps."})]
    nb = new_notebook(cells=[new_markdown_cell("# 00 A tour"), new_markdown_cell("Why.\n\n## The <walk>"), cell])
    pages = own_pages("00_tour", nb)
    assert list(pages) == ["walk"] and own_pages("00_tour", new_notebook(cells=[new_code_cell("1")])) == {}
    assert "<h1>The &lt;walk&gt;</h1>" in pages["walk"] and 'href="00_tour.html"' in pages["walk"]
    assert picture in pages["walk"] and "Figure 1." in pages["walk"]
    assert 'href="walk.html"' in render_index([card("00_tour", nb, RECORD)], "", "")


@pytest.mark.parametrize(
    "seconds, text", [(3.21, "3.2 s"), (47.4, "47 s"), (59.7, "1 min 00 s"), (725, "12 min 05 s")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text
