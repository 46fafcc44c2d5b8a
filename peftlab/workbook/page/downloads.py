"""What a page carries to be saved, as data links: the executed notebook, and its tables as CSV."""

import copy
import csv
import io
import itertools
import re
from html import escape
from urllib.parse import quote

import nbformat
from bs4 import BeautifulSoup
from nbformat import NotebookNode
from nbformat.v4 import new_output

_PANDAS = re.compile(r'<table\b[^>]*(?:class="dataframe[^"]*"|id="T_\w+")[^>]*>.*?</table>', re.S)  # a frame, a Styler


def data_link(text: str, kind: str) -> str:
    """A text as a link that needs no file. Base64, as in pictures, stays as it is: encoded again it would grow.

    >>> data_link("a,b\\n", "text/csv")
    'data:text/csv;charset=utf-8,a,b%0A'
    """
    return f"data:{kind};charset=utf-8,{quote(text, safe='/+=,:;()!*$@')}"


def notebook_link(nb: NotebookNode, room: int) -> tuple[str, int]:
    """The executed notebook as a data link of about `room` characters at most -> (link, how many outputs it lacks).

    Where it is too large, the largest outputs give way to a line that says so.
    """
    nb, kind = copy.deepcopy(nb), "application/x-ipynb+json"
    places = [(cell, at) for cell in nb.cells for at in range(len(cell.get("outputs", [])))]
    sizes = [len(data_link(str(cell.outputs[at]), kind)) for cell, at in places]
    size, lacks = len(data_link(nbformat.writes(nb), kind)), 0
    for larger, (cell, at) in sorted(zip(sizes, places, strict=True), key=lambda pair: -pair[0]):
        if size <= room:
            break
        cell.outputs[at] = new_output("stream", text="This output is left out here; the page shows it.\n")
        size, lacks = size - larger, lacks + 1
    return data_link(nbformat.writes(nb), kind), lacks


def offer_tables(html: str, name: str) -> str:
    """Every table that pandas wrote with a link below that saves it as CSV, with the values that it shows.

    name: of the notebook, with which the files' names begin. A report has it from a reader's folder.
    """
    numbers = itertools.count(1)

    def offered(table: re.Match[str]) -> str:
        file = f"{name}-table-{next(numbers)}.csv"
        link = data_link(table_csv(table[0]), "text/csv")
        return f'{table[0]}<p class="csv"><a download="{escape(file)}" href="{link}">Save as CSV</a></p>'

    return _PANDAS.sub(offered, html)


def table_csv(table: str) -> str:
    """An HTML table as CSV; a cell over several rows or columns is repeated in each.

    >>> table_csv('<table><tr><th rowspan="2">dtd</th><td>lora</td></tr><tr><td>vpt</td></tr></table>')
    'dtd,lora\\r\\ndtd,vpt\\r\\n'
    """
    cells: dict[tuple[int, int], str] = {}  # by row and column
    rows = BeautifulSoup(table, "html.parser").find_all("tr")
    for y, row in enumerate(rows):
        for cell in row.find_all(["th", "td"]):
            x = next(x for x in itertools.count() if (y, x) not in cells)
            height, width = (int(str(cell.get(span) or 1)) for span in ("rowspan", "colspan"))
            for dy, dx in itertools.product(range(height), range(width)):
                cells[y + dy, x + dx] = cell.get_text(" ", strip=True)
    text = io.StringIO()
    columns = 1 + max((x for _, x in cells), default=-1)
    csv.writer(text).writerows([[cells.get((y, x), "") for x in range(columns)] for y in range(len(rows))])
    return text.getvalue()
