"""The walk's numbers are the models', and a reader can go through all of it by mouse, touch and keys."""

import base64
import zlib

import numpy as np
import pytest
import torch
from torch import nn

from peftlab.analysis.attention import attention_maps
from peftlab.backbones.load import load_backbone
from peftlab.backbones.preprocess import prepare_for
from peftlab.common.errors import PeftlabError
from peftlab.methods import attach
from peftlab.tasks.photographs import photographs
from peftlab.views.inside import walk
from peftlab.views.inside.forward import follow
from peftlab.views.inside.guided_walk import METHODS, entry, likeliest, moved
from peftlab.views.inside.packing import unpack

PHOTO = photographs("cat")[0]
STEPS = ["photograph", "patches", "tokens", "qkv", "attention", "residual", "cls", "answer", "method"]


def two_models(name="test_vit", size=96):
    """A random backbone with a head, and the same with a LoRA that does something."""
    vit = load_backbone(name, pretrained=False, img_size=size)
    models = {"frozen": attach(vit, "linear", 7), "LoRA": attach(vit, "lora", 7, seed=1)}
    for key, p in models["LoRA"].vit.named_parameters():
        if ".B." in key:
            nn.init.normal_(p, std=0.05)
    return models


@pytest.fixture(scope="module")
def models():
    return two_models()


@pytest.fixture(scope="module")
def walked(models):
    """A walk and what both models compute on it."""
    pixels = PHOTO.pixels((96, 96))
    return walk(models, PHOTO), [follow(name, model, pixels) for name, model in models.items()]


def floats(text, *shape):
    return torch.from_numpy(np.frombuffer(zlib.decompress(base64.b64decode(text)), "<f4").copy()).reshape(shape)


# --- what the models compute ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, size", [("test_vit", 96), ("peftlab_vit_small", 56)])  # without and with registers
@torch.inference_mode()
def test_what_is_followed_is_what_the_model_computes(name, size):
    model = two_models(name, size)["LoRA"]
    vit, pixels = model.vit, PHOTO.pixels((size, size))
    inside, x = follow("LoRA", model, pixels), prepare_for(vit, pixels)
    places = vit.pos_embed[0]
    prefix, patches = vit.num_prefix_tokens, vit.patch_embed(x)[0].flatten(0, -2)
    assert inside.embedded[0, prefix:].equal(patches) and inside.embedded[0, 0].equal(vit.cls_token[0, 0])
    assert inside.embedded[1, -len(places) :].allclose(places, atol=1e-6)
    assert inside.embedded[:2].sum(0).allclose(inside.embedded[2], atol=1e-6)
    for layer, attention in enumerate(inside.attention):
        assert attention.allclose(attention_maps(vit, x, layer)[0].mean(0))
    block = vit.blocks[0]
    assert inside.stream[0, :, 0].equal(inside.embedded[2])
    assert inside.qkv[0].flatten(1).allclose(block.attn.qkv(block.norm1(inside.embedded[2])), atol=1e-5)
    assert inside.stream[0, :, 3].allclose(block(inside.embedded[2][None])[0], atol=1e-5)
    assert inside.stream[:-1, :, 3].equal(inside.stream[1:, :, 0])
    assert vit.head(inside.features).softmax(-1).allclose(inside.probabilities)
    assert inside.probabilities.allclose(model(x)[0].softmax(-1))


def test_a_page_carries_the_numbers_of_the_models(walked):
    (page, (a, b)), (blocks, tokens) = walked, walked[1][0].qkv.shape[:2]
    data = page.data
    assert [step["name"] for step in data["steps"]] == STEPS
    assert floats(data["embedded"], 2, 3, tokens, 4)[1].allclose(b.embedded[..., :4], rtol=1e-3, atol=1e-6)
    assert floats(data["stream"], 2, blocks, tokens, 4, 5)[0, ..., 0].allclose(a.stream.norm(dim=-1), rtol=1e-3)
    assert floats(data["stream"], 2, blocks, tokens, 4, 5)[1, ..., 1:].allclose(
        b.stream[..., :4], rtol=1e-3, atol=1e-6
    )
    rows = torch.stack([a.attention, b.attention])
    assert floats(data["given"], 2, blocks, tokens, 1).allclose(rows[..., :1], rtol=1e-3, atol=1e-6)
    assert (unpack(data["attention"]).reshape(rows[..., 1:].shape) - rows[..., 1:]).abs().max() < rows.max() / 250
    assert data["alike"][-1] == pytest.approx(torch.cosine_similarity(a.features, b.features, dim=0).item())
    assert data["alike"][0] == pytest.approx(
        torch.cosine_similarity(a.stream[0, 0, 3], b.stream[0, 0, 3], dim=0).item()
    )
    change = moved(a.qkv.flatten(-2), b.qkv.flatten(-2))
    assert floats(data["moved"], blocks, tokens, 3).allclose(change, rtol=1e-3)
    assert (change[0, :, 1] == 0).all() and (change[0, :, [0, 2]] > 0).all(), "LoRA acts on q and v"
    assert data["block"] == (b.attention - a.attention)[:, 1 + data["patch"]].abs().sum(-1).argmax()


def test_the_likeliest_answers_are_named(models, walked):
    model, inside = models["frozen"], walked[1][0]
    answers = likeliest(model, inside)
    assert [share for _, share in answers] == inside.probabilities.sort(descending=True).values[:5].tolist()
    assert answers[0][0] == f"class {inside.probabilities.argmax()}"


def test_each_method_says_where_it_acts(models):
    found = {name: entry(models["frozen"], name) for name in METHODS}
    assert {name: each["steps"] for name, each in found.items()} == {
        "linear": ["answer"],
        "lora": ["qkv"],
        "vpt": ["tokens"],
        "adapter": ["residual"],
        "gist": ["tokens", "residual"],
        "gift": ["residual"],
        "norm": ["qkv", "residual", "cls"],
        "two_stage": ["qkv", "residual", "cls"],
    }
    assert [name for name in METHODS if not found[name]["notMergeable"]] == ["linear", "lora", "gift", "norm"]
    assert all(each["picture"].endswith("</svg>\n") for each in found.values())


def test_models_that_cannot_be_walked_through_get_a_sentence(models):
    other, frozen = two_models(size=64), models["frozen"]
    for bad, message in [
        ({"a": frozen}, "two models side by side, not 1"),
        ({"a": frozen, "b": frozen.vit}, "b has no head to answer with; give a model of pl.attach"),
        ({"a": frozen, "b": other["LoRA"]}, r"a reads images of \(96, 96\) pixels, b of \(64, 64\); load both"),
        ({"a": frozen, "b": two_models()["LoRA"]}, "a and b stand on different backbones"),
        ({"a": frozen, "b": attach(frozen.backbone, "vpt", 7)}, r"b puts \d+ tokens into its blocks"),
        ({"a": frozen, "b": attach(frozen.backbone, "gist", 7)}, "b puts 1 tokens into its blocks"),
    ]:
        with pytest.raises(PeftlabError, match=message):
            walk(bad, PHOTO)
    mean = attach(load_backbone("test_vit", pretrained=False, img_size=96), "linear", 7)
    mean.vit.global_pool = "avg"
    with pytest.raises(PeftlabError, match="the head of b reads no CLS token"):
        walk({"a": frozen, "b": mean}, PHOTO)


def test_a_change_of_the_residual_stream_itself_gets_a_sentence(models):
    tuned = attach(models["frozen"].backbone, "two_stage", 7)
    nn.init.normal_(tuned.vit.blocks[0].channels.U)
    with pytest.raises(PeftlabError, match="b changes the residual stream outside attention and MLP"):
        walk({"a": models["frozen"], "b": tuned}, PHOTO)


# --- in a browser ---------------------------------------------------------------------------------------------------


def rows(page):
    """The tables of a step: {(model or "", first cell): the others}."""
    found = {}
    for table in page.locator(".panel table").all():
        over = table.locator("xpath=..").locator("h4")
        for row in table.locator("tr").all():
            what, *cells = row.locator("th, td").all_inner_texts()
            found[over.inner_text() if over.count() == 1 else "", what] = cells
    return found


def near(texts, values, error=0.006):
    numbers = [
        float(text.replace("−", "-").removesuffix(" %").removesuffix(" points").replace("+", ""))
        for text in texts
        if text != "…"
    ]
    assert numbers == pytest.approx([float(value) for value in values], abs=error)


def heading(page):
    return page.locator(".panel h3").inner_text()


def test_the_first_steps_show_what_both_models_read(opened, models, walked):
    (view, (a, b)), page = walked, opened(walked[0])
    patch = PHOTO.pixels((96, 96))[0, 48:64, 48:64]  # the one in row 4, column 4
    assert rows(page)["", "first pixel"] == [str(value) for value in patch[0, 0].tolist()]
    assert rows(page)["", "last pixel"] == [str(value) for value in patch[-1, -1].tolist()]
    page.get_by_text("2 patches").click()
    near(rows(page)["", "blue"], prepare_for(models["LoRA"].vit, PHOTO.pixels((96, 96)))[0, 2, 48, 48:52])
    page.get_by_text("3 tokens").click()
    for name, inside in (("frozen", a), ("LoRA", b)):
        for part, what in enumerate(("matrix x patch", "+ place", "= token")):
            near(rows(page)[name, what], inside.embedded[part, 1 + view.data["patch"], :4], 0.0006)
    assert "LoRA changes nothing yet" in page.locator(".note").inner_text()


def test_the_steps_in_a_block_show_what_the_models_compute(opened, walked):
    (view, both), page = walked, opened(walked[0])
    a, b = (
        [each[view.data["block"], 1 + view.data["patch"]] for each in (i.qkv, i.attention, i.stream)] for i in both
    )
    page.get_by_text("4 q, k, v").click()
    near(rows(page)["LoRA", "value"], b[0][2, 0, :4])
    shares = [f"{100 * share:.1f} %" for share in moved(a[0].flatten(1), b[0].flatten(1))]
    assert all(share in page.locator(".note").inner_text() for share in shares)
    page.get_by_text("5 attention").click()
    near(rows(page)["", "largest"][:2], [100 * each[1][1:].max() for each in (a, b)], 0.06)
    near(rows(page)["", "to patches"], [100 * each[1:].sum() for each in (a[1], b[1], b[1] - a[1])], 0.06)
    near(rows(page)["", "to CLS"], [100 * each[0] for each in (a[1], b[1], b[1] - a[1])], 0.06)
    places = [divmod(int(each[1][1:].argmax()), 6) for each in (a, b)]
    assert rows(page)["", "at row, column"][:2] == [f"{row + 1}, {column + 1}" for row, column in places]
    page.get_by_text("6 residual").click()
    near(page.locator(".lines b").all_inner_texts(), [*a[2].norm(dim=-1), *b[2].norm(dim=-1)], 0.06)
    near(rows(page)["LoRA", "+ MLP"], b[2][2, :4])


def test_the_last_steps_show_what_the_models_answer(opened, walked):
    (view, (a, b)), page = walked, opened(walked[0])
    page.get_by_text("7 CLS").click()
    near(page.locator(".lines b").all_inner_texts(), view.data["alike"], 0.0006)
    near(rows(page)["", "frozen"], a.features[:4])
    page.get_by_text("8 answer").click()
    shares = torch.cat([inside.probabilities.topk(5).values for inside in (a, b)])
    near(page.locator(".lines b").all_inner_texts(), 100 * shares, 0.06)
    assert f"frozen: class {a.probabilities.argmax()}, " in page.locator(".note").inner_text()


def test_methods_are_put_in_and_lead_back(opened, walked):
    page = opened(walked[0])
    page.get_by_text("9 a method").click()
    for name, step in [("VPT", "Step 3"), ("Adapter", "Step 6"), ("Linear probe", "Step 8"), ("LoRA", "Step 4")]:
        page.get_by_text(name, exact=True).click()
        assert page.locator(".note").inner_text().startswith(f"{name}: ")
        picture = page.locator(".panel img")
        assert picture.evaluate("async (image) => { await image.decode(); return image.naturalWidth; }") > 300
        assert name in picture.get_attribute("alt") and page.locator("li.acts").count() == 1
        page.locator("button.link").click()
        assert heading(page).startswith(step)
        page.get_by_text("9 a method").click()
        assert page.get_by_label(name).is_checked(), "the method stays chosen"


@pytest.mark.parametrize("how", ["click", "keys"])
def test_all_steps_are_reached_and_the_patch_is_kept(opened, walked, how):
    page = opened(walked[0], touch=True)
    box = page.locator(".view").bounding_box()
    page.touchscreen.tap(box["x"] + 0.9 * box["width"], box["y"] + 0.1 * box["height"])
    seen = [heading(page)]
    page.locator(".panel").focus()
    for _ in STEPS:  # one more than there are to go
        page.keyboard.press("ArrowRight") if how == "keys" else page.get_by_text("Next").click(force=True)
        seen.append(heading(page))
    assert [text.partition(":")[0] for text in seen] == [f"Step {i} of 9" for i in (*range(1, 10), 9)]
    for _ in range(4):
        page.keyboard.press("ArrowLeft") if how == "keys" else page.get_by_text("Back").click()
    assert heading(page).startswith("Step 5 of 9") and "patch in row 1, column 6" in page.locator(".note").inner_text()


def test_keys_choose_a_patch_a_token_and_a_block(opened, walked):
    page, a = opened(walked[0]), walked[1][0]
    page.get_by_text("6 residual").click()
    page.locator(".view").focus()
    for key in ("ArrowDown", "ArrowLeft", "ArrowLeft"):
        page.keyboard.press(key)
    assert heading(page).startswith("Step 6"), "arrow keys on the photograph choose patches"
    assert "patch in row 5, column 2" in page.locator(".note").inner_text()
    page.get_by_label("block").focus()
    for key in ("Home", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    assert heading(page).startswith("Step 6"), "arrow keys on the slider choose blocks"
    page.get_by_label("token to follow").select_option("CLS")
    near(rows(page)["frozen", "token before"], a.embedded[2, 0, :4])
    page.get_by_role("status").filter(has_text="residual stream").filter(has_text="The CLS").wait_for(state="attached")
    assert page.locator(".cell").count() == 0, "CLS has no place in the photograph"


@pytest.mark.parametrize("width", [1280, 400])
def test_every_step_fits_the_window_and_paper_has_the_figure(opened, walked, width):
    page = opened(walked[0], width=width)
    for i in range(len(STEPS)):
        page.locator("nav button").nth(i).click()
        assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0, STEPS[i]
    page.emulate_media(media="print")
    assert page.get_by_alt_text("Numbers in boxes.").is_visible() and not page.locator("section").is_visible()
