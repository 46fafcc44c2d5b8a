"""Slides from a lesson's cells: what is shown, what becomes a note, and how Chromium shows a small deck."""

import base64
import io

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from peftlab.workbook.classroom.slides import blocks, find_slides
from peftlab.workbook.page.references import external_references
from peftlab.workbook.page.render import TEMPLATES

LIVE = (
    '<div class="peftlab-explorer"><div class="peftlab-live"><input type="range"></div>'
    '<img alt="An explorer." class="peftlab-strip" src="data:image/png;base64,{png}"/></div>'
)


def png(width=8, height=8):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def picture(says="It <rises>.", width=8, height=8):
    return new_output("display_data", {"image/png": png(width, height)}, metadata={"image/png": {"alt": says}})


def live():
    return new_output("display_data", {"text/html": LIVE.format(png=png()), "text/plain": "An explorer."})


def printed(text):
    return new_output("stream", name="stdout", text=text)


def markdown(source, kind="slide"):
    return new_markdown_cell(source, metadata={"slideshow": {"slide_type": kind}} if kind else {})


def code(*outputs, kind="fragment", source="x", tags=()):
    return new_code_cell(
        source, outputs=list(outputs), metadata={"slideshow": {"slide_type": kind}, "tags": list(tags)}
    )


def slides(*cells):
    nb = new_notebook(cells=list(cells))
    return find_slides(nb, nb)


def shown(slide):
    return [names for names, _ in slide.parts]


# --- what a slide shows ----------------------------------------------------------------------------------------------


def test_a_slide_leads_to_no_notebook_that_it_does_not_have_beside_it():
    (slide,) = slides(markdown("# 04 A\n\n- in [`09_build`](09_build.ipynb)\n\nSee [`08_b`](08_b.ipynb)."))
    assert "<li>in <code>09_build</code></li>" in slide.parts[0][1]
    assert slide.notes == ["<p>See <code>08_b</code>.</p>"]


def test_a_text_cell_gives_its_last_heading_question_bullets_and_formula_and_the_rest_is_notes():
    text = (
        "# 04 A *title*\n\n## 1 The *rank*\n\nWhy so? We see:\n- one\n  and more\n- two\n\n- three\n\n$$x^2$$\n\n"
        "| a | b |\n|---|---|\n\n> A quotation.\n\n```python\n# 1 no heading\n\n- no bullet\n```\n\n"
        "> **Predict**: how\n> many?"
    )
    (slide,) = slides(markdown(text))
    assert slide.heading == "1 The <em>rank</em>" and not slide.pictured
    assert shown(slide) == ["bullets", "formula", "predict"]
    bullets, formula, predict = (html for _, html in slide.parts)
    assert bullets.count("<li>") == 3 and "and more" in bullets
    assert "<math" in formula and "how\nmany?" in predict
    (notes,) = slide.notes
    assert "Why so?" in notes and "<table>" in notes and "A quotation." in notes and "bullet" in notes
    assert "how" not in notes and "<li>" not in notes


def test_nothing_of_a_text_is_lost():
    details = "<details><summary>S</summary>\n\n- in\n\n</details>"
    text = f"**Bold** begins.\n\n- a\n- b\n\n1. first\n2. second\n\n{details}\n\nEnd."
    found = blocks(text)
    assert [kind for kind, _ in found] == ["prose", "bullets", "prose", "details", "prose"]
    assert "\n\n".join(text for _, text in found) == text


def test_cells_without_the_metadata_are_not_shown_and_give_their_heading_only():
    first, second = slides(
        markdown("Before the first slide.", "notes"),
        markdown("# 00 One"),
        markdown("Left out.", None),
        code(picture(), kind="skip"),
        markdown("## 1 Two", None),
        markdown("- a point"),
    )
    assert (first.heading, second.heading) == ("00 One", "1 Two")
    assert first.parts == [] and first.notes == [] and second.notes == []


def test_speaker_notes_keep_bullets_and_formulas_to_themselves():
    (slide,) = slides(markdown("# A"), markdown("## B\n\nSay:\n- this\n\n$$x$$", "notes"))
    assert slide.parts == [] and slide.heading == "A"
    assert "<li>this</li>" in slide.notes[0] and "<math" in slide.notes[0]


def test_a_picture_comes_with_its_sentence_and_hides_what_was_printed():
    (slide,) = slides(markdown("# A"), code(printed("loss 0.3\n"), picture()))
    assert shown(slide) == ["figure fragment"]
    html = slide.parts[0][1]
    assert 'alt="It &lt;rises&gt;."' in html and "<figcaption>It &lt;rises&gt;.</figcaption>" in html
    assert "loss" not in html


def test_without_a_picture_the_text_is_shown_without_bars_of_progress_and_code():
    (slide,) = slides(markdown("# A"), code(printed("fit:  40%|####      | 2/5 [00:01<00:02, 1.9it/s]\rloss 0.3\n")))
    assert shown(slide) == ["output fragment"]
    assert "loss 0.3" in slide.parts[0][1] and "40%" not in slide.parts[0][1] and "x" not in slide.parts[0][1].split()


def test_code_is_shown_where_it_is_asked_for():
    (slide,) = slides(markdown("# A"), code(source="def lora(x):\n    return x", tags=["slide-code"], kind="fragment"))
    assert shown(slide) == ["code fragment"] and "lora" in slide.parts[0][1] and "highlight" in slide.parts[0][1]


def test_a_second_picture_begins_a_slide_of_its_own_under_the_same_heading():
    first, second, third = slides(
        markdown("# A\n\n> **Predict**: what?"), code(picture("One."), picture("Two.")), code(picture("Three."))
    )
    assert [s.heading for s in (first, second, third)] == 3 * ["A"]
    assert shown(first) == ["predict", "figure fragment"]
    assert shown(second) == shown(third) == ["figure"]


def test_an_explorer_is_shown_as_it_is():
    (slide,) = slides(markdown("# A"), code(live()))
    assert shown(slide) == ["figure live fragment"]
    assert 'class="peftlab-live"' in slide.parts[0][1] and "<figcaption>An explorer." in slide.parts[0][1]


def test_what_is_shown_is_the_lesson_of_today_with_the_outputs_of_its_run():
    ran = new_notebook(cells=[markdown("# Old"), code(picture())])
    lesson = new_notebook(cells=[markdown("# New"), code()])
    lesson.cells[1].id = ran.cells[1].id
    (slide,) = find_slides(lesson, ran)
    assert slide.heading == "New"


# --- the page --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deck(tmp_path_factory):
    found = slides(
        markdown("# 00 <One>\n\n- a point\n\nSay this."),
        markdown("## 1 Look\n\n$$x$$\n\n> **Predict**: what?"),
        code(picture(width=300, height=200)),
        markdown("- seen", "fragment"),
        markdown("## 2 Explore"),
        code(live(), kind="fragment"),
        markdown(
            "## Summary\n\n" + "\n".join(f"- point {i}, which takes a good many words to be said" for i in range(11))
        ),
    )
    file = tmp_path_factory.mktemp("deck") / "00_one.html"
    file.write_text(TEMPLATES.get_template("slides.html").render(title="00 <One>", slides=found), encoding="utf-8")
    return file


@pytest.fixture
def page(browser, deck):
    page = browser.new_page(viewport={"width": 1280, "height": 720}, has_touch=True)
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(deck.as_uri())
    yield page
    page.close()
    assert said == []


def state(page):
    """(number of the slide, fragments that wait, address)."""
    waiting = page.locator(".slide:not([hidden]) .waiting").count()
    return page.locator("#number").inner_text(), waiting, page.url.partition("#")[2]


def test_a_deck_needs_nothing_else_and_its_title_is_escaped(deck):
    html = deck.read_text(encoding="utf-8")
    assert external_references(html) == [] and "<One>" not in html.replace("<h1>00 <One></h1>", "")
    index = TEMPLATES.get_template("decks.html").render(decks=[("00_one", "00 <One>")])
    assert external_references(index) == [] and '<a href="00_one.html">00 &lt;One&gt;</a>' in index


def test_keys_turn_slides_fragment_by_fragment_and_back(page):
    places = [("1 / 4", 0, "1"), ("2 / 4", 2, "2"), ("2 / 4", 1, "2"), ("2 / 4", 0, "2"), ("3 / 4", 1, "3")]
    assert state(page) == places[0]
    for key, place in zip(("ArrowRight", "ArrowDown", "Space", "PageDown"), places[1:], strict=True):
        page.keyboard.press(key)
        assert state(page) == place
    for key, place in zip(("ArrowLeft", "ArrowUp", "Shift+Space", "PageUp"), places[-2::-1], strict=True):
        page.keyboard.press(key)
        assert state(page) == place
    page.keyboard.press("ArrowLeft")
    assert state(page) == places[0]
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    assert state(page) == ("4 / 4", 0, "4")
    page.keyboard.press("Home")
    assert state(page) == places[0]
    page.keyboard.press("Control+ArrowRight")
    assert state(page) == places[0]


def test_the_address_leads_to_a_slide(page, deck):
    for address, number in (("#3", "3 / 4"), ("#99", "4 / 4"), ("#x", "1 / 4"), ("", "1 / 4")):
        page.goto("about:blank")
        page.goto(deck.as_uri() + address)
        assert state(page)[0] == number
    page.evaluate("location.hash = '#2'")
    page.wait_for_function("document.querySelector('#number').textContent === '2 / 4'")


def test_taps_and_buttons_turn_slides(page):
    page.touchscreen.tap(1000, 300)
    assert state(page) == ("2 / 4", 2, "2")
    page.touchscreen.tap(100, 300)
    assert state(page) == ("1 / 4", 0, "1")
    page.get_by_role("button", name="On").click()
    page.keyboard.press("Tab")
    assert state(page)[0] == "2 / 4"
    page.get_by_role("button", name="Back").press("Enter")
    assert state(page)[0] == "1 / 4"


def test_speaker_notes_are_shown_on_request(page):
    notes = page.get_by_text("Say this.")
    assert not notes.is_visible()
    page.keyboard.press("n")
    assert notes.is_visible()
    page.keyboard.press("n")
    assert not notes.is_visible()


def test_a_slide_that_is_turned_to_has_the_focus_and_its_fragments_are_seen_late(page):
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "2"
    figure, formula = page.locator("[id='2'] img"), page.locator("[id='2'] .formula")
    assert page.locator("[id='1']").is_hidden()
    assert not figure.is_visible() and formula.is_visible()
    page.keyboard.press("ArrowRight")
    assert figure.is_visible() and figure.bounding_box()["height"] > 300
    assert not formula.is_visible()  # the picture has its place


def test_an_explorer_keeps_its_keys_and_page_keys_go_on(page):
    page.goto(page.url.partition("#")[0] + "#3")
    page.locator("[id='3']").wait_for()  # within a page, the browser tells of a new hash a moment later
    page.keyboard.press("ArrowRight")
    page.locator("[id='3'] input").focus()
    before = page.locator("[id='3'] input").input_value()
    page.keyboard.press("ArrowRight")
    assert state(page)[0] == "3 / 4" and page.locator("[id='3'] input").input_value() != before
    page.keyboard.press("PageDown")
    assert state(page)[0] == "4 / 4"


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (1366, 768), (1920, 1080)])
def test_long_text_becomes_smaller_until_it_fits(width, height, browser, deck):
    page = browser.new_page(viewport={"width": width, "height": height})
    page.goto(deck.as_uri() + "#4")
    last = page.locator("[id='4'] .shown")
    assert last.evaluate("e => e.scrollHeight - e.clientHeight") <= 0
    assert last.evaluate("e => e.style.fontSize") != ""
    page.close()


def test_printed_every_slide_is_a_page_with_all_that_it_shows(page):
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    for part in ("[id='2'] img", "[id='2'] .formula", "[id='2'] .bullets", "[id='4']"):
        assert page.locator(part).is_visible()
    assert page.pdf(prefer_css_page_size=True).count(b"/Type /Page\n") == 4
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert state(page) == ("1 / 4", 0, "1") and page.locator("[id='2']").is_hidden()


def test_nothing_moves_for_who_wants_no_motion(page):
    duration = "e => getComputedStyle(e).transitionDuration"
    assert page.locator("[id='2'] .fragment").first.evaluate(duration) == "0.25s"
    page.emulate_media(reduced_motion="reduce")
    assert page.locator("[id='2'] .fragment").first.evaluate(duration) == "0s"
