"""The workbook as papermill built it: every notebook ran, its page needs nothing else and shows all of it.

`make test` builds the site; PEFTLAB_REPORTS names its folder. What a page looks like is asked of Chromium, where there
is one.
"""

import base64
import io
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from PIL import Image

from peftlab.common.paths import REPOSITORY
from peftlab.workbook.page.provenance import read_commit
from peftlab.workbook.page.references import external_references
from peftlab.workbook.run import find_notebooks

SITE = Path(os.environ.get("PEFTLAB_REPORTS", "")).resolve()
pytestmark = pytest.mark.skipif(
    "PEFTLAB_REPORTS" not in os.environ, reason="no built workbook; name its folder in PEFTLAB_REPORTS (see make test)"
)
NOTEBOOKS = [p.stem for p in find_notebooks(REPOSITORY / "notebooks")]
PAGES = [*NOTEBOOKS, "walk", "index"]
# Of all notebooks, two at a time. Ten minutes on two cores are promised; what needs twice as long has another fault
# than neighbours on the machine.
MINUTES = 20
SCREENSHOTS = os.environ.get("PEFTLAB_SCREENSHOTS", "")  # a folder to keep pictures of explorers in, for people to see
BYTES_OF_PAGE = 6e6  # a page is mailed and opened on phones
BYTES_OF_EXPLORERS = 2e6  # of a page, all of them


def html(name):
    return (SITE / f"{name}.html").read_text(encoding="utf-8")


def executed(name):
    return nbformat.read(SITE / f"{name}.ipynb", as_version=4)


def outputs(name):
    return [output for cell in executed(name).cells for output in cell.get("outputs", [])]


def live(name):
    """Outputs that bring a script: explorers."""
    return [o for o in outputs(name) if "peftlab-live" in o.get("data", {}).get("text/html", "")]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_ran_to_its_end_in_the_fast_profile(name):
    nb = executed(name)
    record = nb.metadata["peftlab"]
    assert (record["status"], record["profile"], record["error"]) == ("ok", "fast", "")
    assert [o.ename for o in outputs(name) if o.output_type == "error"] == []
    assert [c.source for c in nb.cells if c.cell_type == "code" and c.execution_count is None] == []
    assert "Traceback (most recent call last)" not in html(name) and 'role="alert"' not in html(name)


def test_the_whole_takes_minutes():
    assert sum(executed(name).metadata["peftlab"]["seconds"] for name in NOTEBOOKS) / 2 < MINUTES * 60


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_small_and_needs_no_network(name):
    assert external_references(html(name)) == []
    assert (SITE / f"{name}.html").stat().st_size < BYTES_OF_PAGE
    if name in NOTEBOOKS:
        assert sum(len(o.data["text/html"]) for o in live(name)) < BYTES_OF_EXPLORERS


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_picture_is_there_and_shows_something(name):
    pictures = [o.data["image/png"] for o in outputs(name) if "image/png" in o.get("data", {})]
    assert pictures and html(name).count("<img") >= len(pictures)
    for picture in pictures:
        image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("L")
        low, high = image.getextrema()
        assert high - low > 50, "a picture of one colour"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_picture_has_a_sentence_of_its_own_and_a_number(name):
    pictures = [o for o in outputs(name) if "image/png" in o.get("data", {})]
    says = [o.metadata.get("image/png", {}).get("alt", "") for o in pictures] + [
        o.data["text/plain"] for o in live(name)
    ]
    assert min(map(len, says)) > 30 and len(set(says)) == len(says), says
    assert html(name).count("<figcaption>") == len(says)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_no_table_has_a_number_that_is_none(name):
    """As rows have that nobody meant to show."""
    assert re.findall(r">\s*nan\s?%?\s*</td>", html(name)) == []


class Links(HTMLParser):
    """Where the links of a page lead, and the ids that links may lead to."""

    def __init__(self, text):
        super().__init__()
        self.hrefs, self.ids = set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids.add(attrs.get("id"))
        if tag == "a" and "href" in attrs:
            self.hrefs.add(attrs["href"])


@pytest.mark.parametrize("name", PAGES)
def test_links_within_the_site_lead_somewhere(name):
    links = Links(html(name))
    for href in links.hrefs:
        if not re.match(r"(https?|mailto|data):", href):
            file, _, target = href.partition("#")
            assert not file or (SITE / file).is_file(), href
            assert not target or target in (Links((SITE / file).read_text()) if file else links).ids, href
    if name == "index":
        assert {f"{n}.html" for n in NOTEBOOKS} <= links.hrefs


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_page_says_where_it_comes_from_and_carries_its_notebook(name):
    text, record = html(name), executed(name).metadata["peftlab"]
    assert read_commit(record["commit"]) in text and record["environment"] in text
    carried = nbformat.reads(
        unquote(re.search(r'href="data:application/x-ipynb\+json;charset=utf-8,([^"]*)"', text)[1]), 4
    )
    assert [cell.source for cell in carried.cells] == [cell.source for cell in executed(name).cells]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_section_of_a_page_is_in_its_contents(name):
    sections = [line for cell in executed(name).cells for line in re.findall(r"^## .+", cell.source, re.M)]
    contents = re.search(r'<nav class="contents".*?</nav>', html(name), re.S)[0]
    assert contents.count('class="level-2"') == len(sections) + 1  # and what is said about the page


# --- as Chromium shows it ------------------------------------------------------------------------------------------


LAID_OUT = """() => {
    document.querySelectorAll("details").forEach(d => d.open = true);
    const flat = e => { const r = e.getBoundingClientRect(); return r.width < 1 || r.height < 1; };
    return {
        width: document.documentElement.scrollWidth - window.innerWidth,
        flat: [...document.querySelectorAll("math, img:not(.peftlab-strip), table, h1")]
            .filter(flat).map(e => e.outerHTML.slice(0, 90)),
        broken: [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.alt),
        formulas: document.querySelectorAll("math").length,
    };
}"""


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_quietly_and_fits_the_window(name, browser):
    """All solutions unfolded: no error, no request beyond the page, nothing wider than the window, formulas drawn."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    url = (SITE / f"{name}.html").as_uri()
    page.goto(url)
    laid_out = {1280: page.evaluate(LAID_OUT)}
    page.set_viewport_size({"width": 400, "height": 800})
    laid_out[400] = page.evaluate(LAID_OUT)
    page.close()
    assert said == [] and [a for a in asked if a != url and not a.startswith("data:")] == []
    for width, found in laid_out.items():
        assert found["width"] <= 0 and found["flat"] == [] and found["broken"] == [], width
        assert found["formulas"] == html(name).count("<math"), width


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_explorer_of_a_page_draws_and_answers(name, width, browser):
    """Each of its choices is changed once and each of its steps taken, by keys; every time something else is said."""
    if not live(name):
        pytest.skip("no explorer in this notebook")
    page = browser.new_page(viewport={"width": width, "height": 800})
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((SITE / f"{name}.html").as_uri())
    boxes = page.locator(".peftlab-explorer").all()
    assert len(boxes) == len(live(name))
    for i, box in enumerate(boxes):
        box.locator("section").wait_for()
        says = box.locator("section").inner_text
        for control in box.locator("input:checked, input[type=range], select").all():
            if control.is_visible():
                before = says()
                control.focus()
                for key in ("ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp"):
                    if says() == before:
                        page.keyboard.press(key)
                assert says() != before
        following = box.get_by_role("button", name="Next")
        while following.count() and following.is_enabled():
            before = says()
            following.press("Enter")
            assert says() != before
        if SCREENSHOTS:
            box.screenshot(path=Path(SCREENSHOTS) / f"{name}_{i}_{width}.png")
    page.close()
    assert said == []
