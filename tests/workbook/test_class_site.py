"""The class as `peftlab class build` made it of all lessons: its slides in Chromium, and its copies.

`make test` builds the class; PEFTLAB_CLASS names its folder.
"""

import os
from pathlib import Path

import nbformat
import pytest

from peftlab.common.paths import REPOSITORY
from peftlab.workbook.page.references import external_references
from peftlab.workbook.run import find_notebooks

CLASS = Path(os.environ.get("PEFTLAB_CLASS", "")).resolve()
pytestmark = pytest.mark.skipif(
    "PEFTLAB_CLASS" not in os.environ, reason="no built class; name its folder in PEFTLAB_CLASS (see make test)"
)
NOTEBOOKS = [p.stem for p in find_notebooks(REPOSITORY / "notebooks")]
SCREENSHOTS = os.environ.get("PEFTLAB_SCREENSHOTS", "")  # a folder to keep pictures of slides in, for people to see
BYTES_OF_DECK = 6e6  # it is mailed, and opened from a stick

# Of the slide that is shown, all of it revealed: what is cut off, and how large pictures and letters are.
LAID_OUT = """() => {
    const slide = document.querySelector(".slide:not([hidden])"), shown = slide.querySelector(".shown");
    const box = e => e.getBoundingClientRect();
    const cut = e => box(e).right > innerWidth + 1 || box(e).bottom > innerHeight + 1 || box(e).top < -1;
    return {
        over: Math.max(shown.scrollHeight - shown.clientHeight, shown.scrollWidth - shown.clientWidth),
        outside: [...shown.querySelectorAll(".part *:not(math *)")].filter(cut).map(e => e.outerHTML.slice(0, 90)),
        figures: [...shown.querySelectorAll(".figure")].map(e => box(e).height / innerHeight),
        letters: parseFloat(getComputedStyle(shown).fontSize),
        broken: [...shown.querySelectorAll("img:not([hidden])")].filter(i => !i.naturalWidth).map(i => i.alt),
        fragments: shown.querySelectorAll(".waiting").length,
    };
}"""


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_slides_are_turned_to_the_end_and_nothing_is_cut_off(name, browser):
    """By the arrow key: no error, no request beyond the file; a slide fits the projector, its picture fills half."""
    file = CLASS / "slides" / f"{name}.html"
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    said, asked, number = [], [], 0
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    total = page.locator(".slide").count()
    while number < total:
        number += 1
        while (laid_out := page.evaluate(LAID_OUT))["fragments"]:
            page.keyboard.press("ArrowRight")
        if page.locator(".slide:not([hidden]) .live").count():
            page.wait_for_timeout(300)  # explorers draw themselves
        assert page.locator("#number").inner_text() == f"{number} / {total}" and page.url.endswith(f"#{number}")
        laid_out = page.evaluate(LAID_OUT)
        assert laid_out["over"] <= 0 and laid_out["outside"] == [] and laid_out["broken"] == [], number
        assert all(height > 0.45 for height in laid_out["figures"]) and laid_out["letters"] > 17, number
        if SCREENSHOTS:
            page.screenshot(path=Path(SCREENSHOTS) / f"{name}_{number}.png")
        page.keyboard.press("ArrowRight")
    page.close()
    assert said == [] and [a for a in asked if not a.startswith((file.as_uri(), "data:"))] == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_lesson_has_a_handful_of_slides_in_one_small_file(name):
    file = CLASS / "slides" / f"{name}.html"
    html = file.read_text(encoding="utf-8")
    assert 6 <= html.count('<section class="slide') <= 20
    assert external_references(html) == [] and file.stat().st_size < BYTES_OF_DECK
    assert f'href="{name}.html"' in (file.parent / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_copies_are_notebooks(name):
    for kind in ("student", "instructor"):
        nbformat.validate(nbformat.read(CLASS / kind / f"{name}.ipynb", as_version=4))
    tests = len(list((CLASS / "grading" / name / "tests").glob("*.py")))
    assert tests == (CLASS / "instructor" / f"{name}.ipynb").read_text(encoding="utf-8").count(": right. ") >= 3
