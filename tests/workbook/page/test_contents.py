"""Contents of a page: they lead to every section."""

import copy
import re

import pytest
from lesson import LESSON, RECORD

from peftlab.workbook.page.contents import link_headings, slug
from peftlab.workbook.page.references import external_references
from peftlab.workbook.page.render import render_page


@pytest.mark.parametrize(
    ("heading", "name"),
    [
        ("3 Which method for which budget?", "which-method-for-which-budget"),
        ("Exercise 2: <code>lora</code> &amp; Größe", "exercise-2-lora-größe"),
        ("2026", "2026"),
        ("?", "section"),
    ],
)
def test_slugs_are_readable_and_stay_when_a_section_is_put_before(heading, name):
    assert slug(heading) == name


def test_equal_headings_are_numbered_and_no_id_is_given_twice():
    html, found = link_headings("<h2>A</h2><h3>A 2</h3><h2>A</h2><h4>A</h4>")
    assert re.findall('id="([^"]*)"', html) == ["a", "a-2", "a-3", "a-4"]
    assert [(heading.level, heading.name) for heading in found] == [(2, "a"), (3, "a-2"), (2, "a-3")]


def test_headings_within_a_script_are_left_alone():
    script = "<script>x = '<h2>no</h2>'</script>"
    assert link_headings(script) == (script, [])


def test_prose_leads_to_the_lessons_that_have_a_page():
    nb = copy.deepcopy(LESSON)
    nb.cells[0].source += "\n\nSee [`01_b`](01_b.ipynb), [`02_c`](02_c.ipynb) and [D](https://d.example/03_d.ipynb)."
    html = render_page(nb, RECORD, pages=["00_a", "01_b"])
    assert 'See <a href="01_b.html"><code>01_b</code></a>, <code>02_c</code> and' in html
    assert 'href="https://d.example/03_d.ipynb"' in html


def test_contents_lead_to_every_section():
    html = render_page(LESSON, RECORD)
    contents = re.search(r'(?s)<nav class="contents".*?</nav>', html)[0]
    targets = re.findall('href="#([^"]*)"', contents)
    assert targets == ["what-is-r", "a-rank", "then", "exercise-1-count", "summary", "about-this-page"]
    assert all(html.count(f'id="{target}"') == 1 for target in targets)
    assert "<math" in contents and "<code>rank</code>" in contents
    assert "<script" not in html and external_references(html) == []
