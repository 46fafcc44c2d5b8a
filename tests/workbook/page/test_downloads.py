"""What a page gives to be saved: the notebook, and tables as CSV."""

import csv
import io
import re
from urllib.parse import unquote

import nbformat
import pandas as pd
from bs4 import BeautifulSoup
from lesson import LESSON, RECORD, TABLE, saved

from peftlab.workbook.page import render
from peftlab.workbook.page.downloads import data_link, notebook_link, offer_tables, table_csv
from peftlab.workbook.page.render import render_page


def test_a_mailed_page_carries_its_notebook():
    [text] = saved(render_page(LESSON, RECORD), "application/x-ipynb+json")
    assert nbformat.reads(text, 4) == LESSON
    assert 'download="00_a.ipynb"' in render_page(LESSON, RECORD)


def test_a_notebook_too_large_loses_its_largest_outputs_and_the_page_says_so(monkeypatch):
    whole, none = notebook_link(LESSON, 10**9)
    small, lacks = notebook_link(LESSON, len(whole) - 1)
    assert (none, lacks) == (0, 1) and len(small) < len(whole) / 2
    [_, drawn, table, *_] = nbformat.reads(unquote(small.partition(",")[2]), 4).cells
    assert "the page shows it" in drawn.outputs[0].text and "text/html" in table.outputs[0].data
    assert "largest output" not in render_page(LESSON, RECORD)
    monkeypatch.setattr(render, "LARGEST", len(render_page(LESSON, RECORD).encode()))
    html = render_page(LESSON, RECORD)
    assert "without its largest output, so that" in html and len(html.encode()) < render.LARGEST


def test_a_table_is_saved_as_it_is_shown():
    html = offer_tables(f"<p>{TABLE._repr_html_()}</p>{TABLE.style.format('{:.1%}').to_html()}", "00_a")
    first, second = saved(html, "text/csv")
    assert list(csv.reader(io.StringIO(first))) == [["", "µ, in %"], ["<lora>", "1.5"], ["vpt", "2.5"]]
    assert "vpt,250.0%" in second
    assert re.findall('download="([^"]*)"', html) == ["00_a-table-1.csv", "00_a-table-2.csv"]
    assert offer_tables("<table><tr><td>of prose</td></tr></table>", "00_a").count("csv") == 0


def test_a_name_that_is_markup_stays_a_name():
    """It is that of a reader's folder, and the page is mailed to others."""
    name = "photos\"><img src=x onerror='alert(1)'>"
    html = offer_tables(TABLE._repr_html_(), name)
    links = BeautifulSoup(html, "html.parser").find_all("a")
    assert [link["download"] for link in links] == [f"{name}-table-1.csv"] and "<img" not in html


def test_merged_cells_are_repeated():
    index = pd.MultiIndex.from_product([["dtd", "eurosat"], ["lora", "vpt"]], names=["task", "method"])
    rows = list(csv.reader(io.StringIO(table_csv(pd.DataFrame({"x": range(4)}, index)._repr_html_()))))
    assert rows[2:] == [["dtd", "lora", "0"], ["dtd", "vpt", "1"], ["eurosat", "lora", "2"], ["eurosat", "vpt", "3"]]


def test_a_data_link_is_safe_within_an_attribute():
    nasty = "\"'<>&#%\n\\ ?µ`"
    assert not set(data_link(nasty, "text/plain")) & set("\"'<>&#\n\\ ?µ`")
    assert unquote(data_link(nasty, "text/plain").partition(",")[2]) == nasty
