"""What a page gives to its reader beside the cells: contents, things to save, where it comes from, a page without
exercises; enlarged figures, the switch for code, a dark page and one on paper, as Chromium shows them."""

import base64
import csv
import io
import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from peftlab.results.ledger import write_record
from peftlab.workbook import page, provenance
from peftlab.workbook.contents import link_headings, slug
from peftlab.workbook.downloads import data_link, notebook_link, offer_tables, table_csv
from peftlab.workbook.figures import number_figures
from peftlab.workbook.page import external_references, render_page
from peftlab.workbook.provenance import describe_commit, read_commit, read_fingerprints
from peftlab.workbook.reader import without_exercises

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
    "fingerprints": {"dtd": "2279d92aac21"},
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
        new_markdown_cell("## Summary\n\n- One."),
    ]
    nb = new_notebook(cells=cells, metadata={"papermill": {"parameters": {"task": "<dtd>", "seed": 3}}})
    nb.metadata["peftlab"] = RECORD
    return nb


LESSON = executed()


def visible(html):
    return re.sub(r"<[^>]+>", "", re.sub(r"(?s)<style.*?</style>", "", html))


def saved(html, kind):
    """What the data links of a kind hold."""
    return [unquote(text) for text in re.findall(rf'href="data:{re.escape(kind)};charset=utf-8,([^"]*)"', html)]


# --- contents ------------------------------------------------------------------------------------------------------


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


def test_contents_lead_to_every_section():
    html = render_page(LESSON, RECORD)
    contents = re.search(r'(?s)<nav class="contents".*?</nav>', html)[0]
    targets = re.findall('href="#([^"]*)"', contents)
    assert targets == ["what-is-r", "a-rank", "then", "exercise-1-count", "summary", "about-this-page"]
    assert all(html.count(f'id="{target}"') == 1 for target in targets)
    assert "<math" in contents and "<code>rank</code>" in contents
    assert "<script" not in html and external_references(html) == []


# --- things to save ------------------------------------------------------------------------------------------------


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
    monkeypatch.setattr(page, "LARGEST", len(render_page(LESSON, RECORD).encode()))
    html = render_page(LESSON, RECORD)
    assert "without its largest output, so that" in html and len(html.encode()) < page.LARGEST


def test_a_table_is_saved_as_it_is_shown():
    html = offer_tables(f"<p>{TABLE._repr_html_()}</p>{TABLE.style.format('{:.1%}').to_html()}", "00_a")
    first, second = saved(html, "text/csv")
    assert list(csv.reader(io.StringIO(first))) == [["", "µ, in %"], ["<lora>", "1.5"], ["vpt", "2.5"]]
    assert "vpt,250.0%" in second
    assert re.findall('download="([^"]*)"', html) == ["00_a-table-1.csv", "00_a-table-2.csv"]
    assert offer_tables("<table><tr><td>of prose</td></tr></table>", "00_a").count("csv") == 0


def test_merged_cells_are_repeated():
    index = pd.MultiIndex.from_product([["dtd", "eurosat"], ["lora", "vpt"]], names=["task", "method"])
    rows = list(csv.reader(io.StringIO(table_csv(pd.DataFrame({"x": range(4)}, index)._repr_html_()))))
    assert rows[2:] == [["dtd", "lora", "0"], ["dtd", "vpt", "1"], ["eurosat", "lora", "2"], ["eurosat", "vpt", "3"]]


def test_a_data_link_is_safe_within_an_attribute():
    nasty = "\"'<>&#%\n\\ ?µ`"
    assert not set(data_link(nasty, "text/plain")) & set("\"'<>&#\n\\ ?µ`")
    assert unquote(data_link(nasty, "text/plain").partition(",")[2]) == nasty


# --- where a page comes from ---------------------------------------------------------------------------------------


def git(folder, *words):
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", folder, *identity, *words], check=True, capture_output=True)


def test_the_commit_and_whether_files_differ_from_it(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "REPOSITORY", tmp_path)
    assert describe_commit() == "", "no clone"
    git(tmp_path, "init", "--quiet")
    (tmp_path / "a.py").write_text("1")
    assert describe_commit() == "", "no commit yet"
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "--quiet", "-m", "A")
    git(tmp_path, "tag", "v1")
    assert re.fullmatch("[0-9a-f]{12}", describe_commit())
    (tmp_path / "a.py").write_text("2")
    assert re.fullmatch("[0-9a-f]{12}-dirty", describe_commit())
    monkeypatch.setenv("PATH", "")
    assert describe_commit() == "", "no git on this machine"


def test_a_folder_within_somebody_elses_clone_has_no_commit(tmp_path, monkeypatch):
    git(tmp_path, "init", "--quiet")
    (tmp_path / "a.py").write_text("1")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "--quiet", "-m", "A")
    (tmp_path / "installed").mkdir()
    monkeypatch.setattr(provenance, "REPOSITORY", tmp_path / "installed")
    assert describe_commit() == ""


def test_a_page_says_where_it_comes_from():
    html = render_page(LESSON, RECORD)
    text = visible(html)
    assert "commit 0123456789ab, with uncommitted changes" in text and "torch 2" in text
    assert "2279d92aac21, in the ledger's last run on it" in text
    assert "<code>task</code></th><td><code>&#39;&lt;dtd&gt;&#39;</code>" in html
    assert "<code>seed</code></th><td><code>3</code>" in html
    assert read_commit("") in render_page(LESSON, RECORD | {"commit": ""})


def test_fingerprints_are_those_of_the_last_run_on_the_task_and_the_backbone(tmp_path):
    """The ledger of a test is tmp_path / "runs"."""
    parameters = {"task": "dtd", "backbone": "mini", "seed": 0}
    assert read_fingerprints(parameters) == {}, "no ledger yet"
    run = {"method": "lora", "seed": 0, "task": "dtd", "backbone": "mini"}
    for name, facts in {
        "a": {"data": "new", "weights": "w", "finished": "2025-01-02"},
        "b": {"data": "old", "weights": "w", "finished": "2025-01-01"},
        "c": {"data": "unfinished", "weights": "x"},
        "d": {"task": "eurosat", "data": "other", "weights": "v", "backbone": "base", "finished": "2025-01-03"},
    }.items():
        (tmp_path / "runs" / name).mkdir(parents=True)
        write_record(tmp_path / "runs" / name, run | facts)
    assert read_fingerprints(parameters) == {"dtd": "new", "mini": "w"}
    assert read_fingerprints({"task": "pets", "backbone": None}) == {}


# --- for readers who do no exercises -------------------------------------------------------------------------------


def test_a_page_for_readers_has_no_exercises():
    student, reader = render_page(LESSON, RECORD), render_page(LESSON, RECORD, reader=True)
    for words in ("not answered yet", "Exercise 1", "Easy, 3 minutes", "Solution"):
        assert words in visible(student) and words not in visible(reader)
    for words in ("Prose stays.", "After it.", "2 Then", "Summary"):
        assert words in visible(reader)
    assert saved(student, "application/x-ipynb+json") == saved(reader, "application/x-ipynb+json")


def test_of_a_notebook_without_exercises_everything_stays():
    nb = new_notebook(cells=[new_markdown_cell("Exercise 1 is\n### Exercises"), new_code_cell('# check("a.1", 1)\n1')])
    assert without_exercises(nb).cells == nb.cells


# --- figures ---------------------------------------------------------------------------------------------------------


def test_a_picture_can_be_enlarged_and_an_explorer_not():
    png = 'src="data:image/png;base64,iVBO"/>'
    html = number_figures(f'<img alt="A." {png}<img alt="B." class="peftlab-strip" {png}')
    assert html.count("<figure") == 2 and html.count('type="checkbox"') == 1 and "Enlarge figure 1" in html


# --- as Chromium shows it ------------------------------------------------------------------------------------------


@pytest.fixture
def opened(tmp_path, browser):
    """A function that opens the page in a window."""
    file = tmp_path / "00_a.html"
    file.write_text(render_page(LESSON, RECORD), encoding="utf-8")
    pages = []

    def open_page(width=1280, **options):
        pages.append(browser.new_page(viewport={"width": width, "height": 800}, **options))
        pages[-1].goto(file.as_uri())
        return pages[-1]

    yield open_page
    for each in pages:
        each.close()


def test_contents_stand_beside_the_page_and_are_folded_on_a_telephone(opened):
    wide, narrow = opened(1280), opened(400)
    assert wide.get_by_role("link", name="Summary").is_visible()
    assert narrow.get_by_role("link", name="Summary").is_hidden()
    narrow.get_by_text("Contents", exact=True).click()
    narrow.get_by_role("link", name="Summary").click()
    assert narrow.url.endswith("#summary")


def test_code_is_hidden_by_a_switch_and_outputs_stay(opened):
    page = opened()
    code, table = page.get_by_text("show()"), page.locator("table.dataframe")
    assert code.is_visible()
    page.get_by_label("Hide code").check()
    assert code.is_hidden() and table.is_visible()


@pytest.mark.parametrize("width", [1280, 400])
def test_a_figure_is_enlarged_by_a_click_or_the_space_bar(opened, width):
    page = opened(width)
    image, box = page.locator("figure img"), page.get_by_label("Enlarge figure 1")
    before = image.bounding_box()["width"]
    image.click()
    assert image.bounding_box()["width"] > 1.5 * before
    image.click()
    assert image.bounding_box()["width"] == before
    box.focus()
    page.keyboard.press("Space")
    assert image.bounding_box()["width"] > 1.5 * before


def test_the_notebook_and_a_table_are_saved_by_a_click(opened):
    page = opened()
    for words, name in (("Save the executed notebook", "00_a.ipynb"), ("Save as CSV", "00_a-table-1.csv")):
        with page.expect_download() as download:
            page.get_by_role("link", name=words).click()
        assert download.value.suggested_filename == name
        assert Path(download.value.path()).stat().st_size > 20


BACKGROUND = "getComputedStyle(document.body).backgroundColor"


def test_a_page_is_dark_where_the_reader_wants_it_and_white_on_paper(opened):
    assert opened(color_scheme="light").evaluate(BACKGROUND) == "rgb(255, 255, 255)"
    page = opened(color_scheme="dark")
    assert page.evaluate(BACKGROUND) == "rgb(20, 24, 31)"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(BACKGROUND) == "rgb(255, 255, 255)"
    assert page.get_by_label("Hide code").is_hidden() and page.get_by_role("link", name="Save as CSV").is_hidden()
    assert page.get_by_role("link", name="Summary").is_visible()


# --- contrast --------------------------------------------------------------------------------------------------------

ON_PAPER = ("ink", "soft", "blue", "red", "green", "text", "number", "comment", "name", "yellow")
PAIRS = [(ink, ground) for ink in ON_PAPER for ground in ("paper", "wash")] + [
    ("ink", "amber"),
    ("ink", "rose"),
    ("ink", "marked"),
    ("red", "rose"),
]


def colours(file, scheme):
    css = (Path(page.__file__).parent / "templates" / file).read_text()
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


def test_a_page_alone_leads_nowhere_and_hides_its_code():
    nb = new_notebook(cells=[new_markdown_cell("# A"), new_code_cell("1")])
    html, usual = (render_page(nb, RECORD | {"profile": "full"}, alone=alone) for alone in (True, False))
    assert 'href="index.html"' in usual and "profile: full" in usual and 'id="hide-code">' in usual
    assert 'href="index.html"' not in html and "profile:" not in html and 'id="hide-code" checked>' in html
