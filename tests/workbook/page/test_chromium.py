"""Pages as Chromium shows them: contents, switches, enlarged figures, things to save, at night and on paper."""

from pathlib import Path

import pytest
from lesson import LESSON, RECORD

from peftlab.workbook.page.render import render_page


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


def test_on_paper_all_that_is_folded_is_shown_but_solutions(opened):
    page = opened()
    folded, solution = page.get_by_text("Folded away."), page.get_by_text("answer = 7")
    assert folded.is_hidden() and solution.is_hidden()
    page.emulate_media(media="print")
    assert folded.is_visible() and solution.is_hidden()
    scrolling = "[...document.querySelectorAll('*')].filter(e => getComputedStyle(e).overflowX == 'auto').length"
    assert page.evaluate(scrolling) == 0, "no scrollbars on paper"


def test_a_telephone_keeps_the_names_of_rows_in_sight_and_says_that_figures_grow(opened):
    narrow, wide = opened(400), opened(1280)
    position = "getComputedStyle(document.querySelector('.dataframe tbody th')).position"
    assert (narrow.evaluate(position), wide.evaluate(position)) == ("sticky", "static")
    after = "getComputedStyle(document.querySelector('figcaption'), '::after').content"
    assert "Tap to enlarge" in narrow.evaluate(after) and "Tap" not in wide.evaluate(after)
