"""An explorer's data, and what Chromium makes of them: mouse, touch, keys, and the numbers that Python computed."""

import re

import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image

from peftlab.analysis.attention import patch_attention, share_inside
from peftlab.backbones.load import load_backbone
from peftlab.common.errors import PeftlabError
from peftlab.methods import attach
from peftlab.tasks.photographs import photographs
from peftlab.views.inside import attention, part
from peftlab.views.inside.explorer import Choice, Explorer, Table
from peftlab.views.inside.packing import outline, pack, unpack


def some_explorer(**changes):
    """Two pictures, two models, three heads, maps of 2 x 2 cells whose numbers tell where they belong."""
    maps = torch.arange(48.0).reshape(2, 2, 3, 2, 2) / 48
    maps[1, 1] = torch.nan
    values = {
        "title": "Numbers",
        "choices": [
            Choice("picture", ["left", "right"]),
            Choice("model", ["a", "b"], derived={"b less a": (1, 0)}),
            Choice("head", range(1, 4), "list", {"mean": "mean", "all": "each"}, "mean"),
            Choice("word", [["one", "two"], ["three", "four"]], "words", by="picture"),
        ],
        "pictures": [(Image.new("RGB", (8, 8), color), color) for color in ("red", "blue")],
        "pictured": ["picture"],
        "maps": maps,
        "mapped": ["picture", "model", "head"],
        "unit": "of all",
        "whole": "in all",
        "facts": [Table("name", ["picture", "word"], [["i", "ii"], ["iii", None]], "text")],
        "chart": Table("height", ["model", "head"], [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], "percent"),
        "missing": "None here.",
        "strip": plt.figure(figsize=(1, 1)),
    }
    return Explorer(**values | changes)


def test_packed_maps_come_back_to_half_a_step():
    for maps in (torch.rand(3, 5, 4, 4), torch.randn(3, 5, 4, 4) * 1e-3, torch.zeros(1, 2, 2)):
        back = unpack(pack(maps)).reshape(maps.shape)
        assert ((back - maps).abs() <= maps.abs().amax((-1, -2), keepdim=True) / 253.9).all()
    assert unpack(pack(torch.full((1, 2, 2), torch.nan))).isnan().all()


def test_an_outline_is_where_the_mask_ends():
    mask = torch.zeros(10, 20, dtype=torch.bool)
    mask[2:8, 5:15] = True
    x, y = zip(*re.findall(r"(\d+) (\d+)", outline(mask)), strict=True)
    assert [min(map(int, x)), max(map(int, x)), min(map(int, y)), max(map(int, y))] == pytest.approx(
        [25, 75, 20, 80], abs=5
    )
    assert outline(torch.zeros(4, 4, dtype=torch.bool)) == ""


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"mapped": ["model", "picture"]}, r"Numbers: maps has axes of \[2, 2, 3\] for model x picture"),
        ({"pictured": []}, "2 pictures for 1 choices"),
        ({"facts": [Table("name", ["model"], [1, 2, 3])]}, r"name has axes of \[3\] for model, which take \[2\]"),
        (
            {"pictures": [(Image.effect_noise((4000, 4000), 99).convert("RGB"), "")] * 2},
            "MB, a page takes 2. Give it fewer",
        ),
    ],
)
def test_bad_explorers_get_a_sentence(changes, message):
    with pytest.raises(PeftlabError, match=message):
        some_explorer(**changes).html("Says.")


def test_models_that_do_not_fit_get_a_sentence():
    vit = load_backbone("test_vit", pretrained=False)
    small, large = (
        attach(load_backbone("test_vit", pretrained=False, img_size=size), "linear", 2) for size in (96, 112)
    )
    with pytest.raises(
        PeftlabError, match=r"b reads images of \(112, 112\) pixels, but the first model of \(96, 96\)"
    ):
        attention({"a": small, "b": large}, photographs("cat"))
    with pytest.raises(PeftlabError, match="prompts of VPT have no names"):
        attention({"a": attach(vit, "vpt", 2)}, photographs("cat"))


def test_what_a_page_carries_cannot_end_its_script():
    html = some_explorer(missing="</script><script>alert(1)</script>").html('A "quoted" <b>sentence</b>.')
    assert html.count("</script>") == 2 and 'alt="A &quot;quoted&quot; &lt;b&gt;sentence&lt;/b&gt;."' in html


# --- in a browser ---------------------------------------------------------------------------------------------------


def facts(page):
    """{what: value} as the page says it."""
    names, values = (page.locator(f"dl {tag}").all_inner_texts() for tag in ("dt", "dd"))
    return dict(zip(names, values, strict=True))


def number(page, what):
    return float(facts(page)[what].split()[0])


def test_choices_change_what_is_said(opened):
    page = opened(some_explorer())
    mean = sum(range(12)) / 48 / 3  # three heads
    assert number(page, "in all") == pytest.approx(100 * mean, abs=0.2) and facts(page)["name"] == "i"
    page.get_by_label("head", exact=True).select_option(label="3")
    page.get_by_text("b", exact=True).click()
    assert number(page, "in all") == pytest.approx(100 * sum(range(20, 24)) / 48, abs=0.8)  # 4 half steps
    page.get_by_text("b less a").click()
    assert facts(page)["in all"].endswith(" points") and number(page, "in all") == pytest.approx(100, abs=1.5)
    page.get_by_text("two").click()
    assert facts(page)["name"] == "ii"
    page.get_by_text("right", exact=True).click()  # the second word stays chosen, and has another text there
    assert facts(page) == {"": "None here."} and page.get_by_text("four", exact=True).is_visible()
    assert page.locator("section img").get_attribute("alt") == "blue"


def test_all_of_a_choice_stand_side_by_side(opened):
    page = opened(some_explorer())
    page.get_by_label("head", exact=True).select_option(label="all")
    assert page.locator("figcaption").all_inner_texts() == ["1", "2", "3"] and page.locator("canvas").count() == 3
    assert set(facts(page)) == {"name", "in all, mean"}  # the scale is of all, so no place of the mean is "most"


def test_bars_are_buttons(opened):
    page = opened(some_explorer())
    assert page.locator(".bars button").evaluate_all("all => all.map(b => b.ariaLabel)") == [
        "head 1: 10.0 %",
        "head 2: 20.0 %",
        "head 3: 30.0 %",
    ]
    page.get_by_label("head 3: 30.0 %").click()
    assert page.get_by_label("head", exact=True).input_value() == "2"


def test_in_a_dark_page_names_under_bars_are_dark_on_white(opened):
    """The explorer stays white there; buttons would take the light ink of the page's scheme."""
    page = opened(some_explorer())
    page.emulate_media(color_scheme="dark")
    page.evaluate("document.documentElement.style.colorScheme = 'light dark'")
    ink = "e => getComputedStyle(e).color"
    assert page.locator(".bars button small").first.evaluate(ink) != "rgb(255, 255, 255)"
    assert page.locator("select").first.evaluate(ink) == "rgb(0, 0, 0)"


@pytest.fixture(scope="module")
def looked():
    """Attention of a small ViT and of the same with a gist, over one photograph; and its models."""
    vit = load_backbone("test_vit", pretrained=False, img_size=96)
    models = {"plain": attach(vit, "linear", 3), "GIST": attach(vit, "gist", 3, seed=1, base_method="lora")}
    return attention(models, photographs("cat")), models


def test_a_page_shows_what_python_computed(opened, looked):
    view, models = looked
    page, photo = opened(view), photographs("cat")[0]
    masks = photo.mask((336, 336))
    for name, model in models.items():
        page.get_by_text(name, exact=True).click()
        map_ = patch_attention(model, photo.pixels((96, 96)))
        share = 100 * share_inside(map_, masks).item()
        assert number(page, "of that, within the outline") == pytest.approx(share, abs=0.5)
    page.get_by_text("plain", exact=True).click()
    page.get_by_text("gist", exact=True).click()
    assert facts(page)[""] == "This model has no such token."


def test_mouse_keys_and_touch_choose_a_patch(opened, looked):
    page = opened(looked[0], touch=True)
    box = page.locator(".frame").bounding_box()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.1 * box["height"])
    assert "query: patch in row 1, column 4" in page.locator(".says").inner_text()
    page.mouse.move(0, 0)
    assert "query: CLS" in page.locator(".says").inner_text()
    page.locator(".view").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp"):  # the first chooses the middle
        page.keyboard.press(key)
    assert "query: patch in row 3, column 5" in page.locator(".says").inner_text()
    page.get_by_role("status").filter(has_text="patch in row 3, column 5").wait_for(state="attached")
    page.keyboard.press("Escape")
    assert "query: CLS" in page.locator(".says").inner_text()
    page.touchscreen.tap(box["x"] + 0.9 * box["width"], box["y"] + 0.9 * box["height"])
    assert "query: patch in row 6, column 6" in page.locator(".says").inner_text()


def test_a_button_takes_the_choice_back_from_the_keys(opened, looked):
    page = opened(looked[0])
    page.locator(".view").focus()
    page.keyboard.press("ArrowRight")
    page.get_by_text("gist", exact=True).click()
    page.mouse.move(0, 0)
    assert "query: gist" in page.locator(".says").inner_text() and page.locator(".cell").is_hidden()


@pytest.mark.parametrize("width", [1280, 400])
def test_it_fits_the_window_and_paper_has_the_strip(opened, looked, width):
    page = opened(looked[0], some_explorer(), width=width)
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert page.locator("body > .peftlab-explorer > img").first.is_hidden()
    page.emulate_media(media="print")
    assert page.locator("body > .peftlab-explorer > img").first.is_visible()
    assert not page.locator("section").first.is_visible()


def test_without_scripts_the_strip_stands_there(browser, tmp_path):
    (tmp_path / "page.html").write_text(some_explorer().html("Numbers in boxes."), encoding="utf-8")
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto((tmp_path / "page.html").as_uri())
    assert page.get_by_alt_text("Numbers in boxes.").is_visible()
    page.context.close()


def test_the_limit_is_a_page_and_not_a_film():
    assert part.LARGEST == 2_000_000
