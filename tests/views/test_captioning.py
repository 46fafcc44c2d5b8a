"""Pictures of captioning: spans, sizes and probabilities are what their names say."""

import pytest
import torch

from peftlab.backbones.load import load_backbone
from peftlab.captioning import Captioner, load_language_model, load_scenes_captioner, text_loss, word_accuracy
from peftlab.captioning.metrics import token_losses
from peftlab.common.errors import PeftlabError
from peftlab.tasks.synthetic import grammar
from peftlab.views import captioning as look

CAPTION = "there is a small red metal cube behind a large blue rubber sphere"


@pytest.fixture(scope="module")
def lm():
    return load_language_model()


@pytest.fixture(params=["lora", "bitfit", "ia3"])
def model(request, lm):
    torch.manual_seed(0)
    vit = load_backbone("test_vit", pretrained=False, img_size=32)
    model = Captioner(vit, lm, "context_peft", kind=request.param, rank=2, grid=2)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p += 0.05 * torch.randn_like(p)
    return model


def patches(model):
    return torch.randn(model.image_tokens, model.connector[2].in_features, generator=torch.Generator().manual_seed(1))


def test_context_sizes_are_norms_of_what_each_context_adds(model):
    """By the effect on unit vectors: the change of each layer as a matrix, one context at a time."""
    sizes = look.context_sizes(model)
    assert sizes.shape == (4, 2)
    for b, block in enumerate(model.lm.blocks):
        for c in range(2):
            model.contexts.numbers, total = torch.tensor([c]), 0.0
            for layer in block.modules():
                if not hasattr(layer, "base"):
                    continue
                if model.adapter.kind == "lora":
                    eye = torch.eye(layer.base.in_features)[:, None]
                    change = layer(eye) - layer.base(eye)
                elif hasattr(layer, "after"):
                    x = torch.ones(1, 1, layer.base.out_features)
                    change = layer.after(x) - x
                else:
                    x = torch.ones(1, 1, layer.base.in_features)
                    change = layer.before(x) - x
                total += change.square().sum().item()
            assert sizes[b, c].item() == pytest.approx(total**0.5, rel=1e-3)
    ax, ratio = look.context_norms(model), sizes[:, 0] / sizes[:, 1]
    assert [text.get_text() for text in ax.texts] == ["image", "text"]
    assert f"changed {ratio.min():.1f} to {ratio.max():.1f} times as much" in ax.get_title()


def test_adapters_that_changed_nothing_are_said_to_have_changed_nothing(lm):
    vit = load_backbone("test_vit", pretrained=False, img_size=32)
    fresh = Captioner(vit, lm, "context_peft", grid=2, kind="lora", rank=2, contexts="domain")
    assert look.context_norms(fresh).get_title() == "No adapter has changed a weight yet"


def test_sizes_need_adapters(lm):
    plain = Captioner(load_backbone("test_vit", pretrained=False, img_size=32), lm, grid=2)
    with pytest.raises(PeftlabError, match="connector has no adapters"):
        look.context_sizes(plain)


def test_word_probabilities_give_the_loss(model):
    right, best = look.word_probabilities(model, patches(model), CAPTION)
    losses, _ = token_losses(model, patches(model)[None], [CAPTION])
    torch.testing.assert_close(-right.log(), losses[0].detach())
    words = look.pieces(model, CAPTION)
    assert words[-1] == "<eos>" and len(best) == len(words) == len(right)
    hit = (best == model.encode([CAPTION])[0][0, : len(words)]).tolist()
    share = sum(hit) / len(words)
    assert word_accuracy(model, patches(model)[None], [CAPTION]) == pytest.approx(share)
    ax = look.teacher_forced(model, patches(model), CAPTION)
    assert [bar.get_height() for bar in ax.patches] == pytest.approx(right.tolist())
    marks = [text.get_text()[0] for text in ax.texts]
    assert marks == [look.TRUE if right else look.FALSE for right in hit]
    assert f"{marks.count(look.TRUE)} of {len(words)} words" in ax.get_title()


def test_words_that_only_look_alike_are_not_ticked(model, monkeypatch):
    """With a tokenizer of bytes " dog" and "dog" are decoded to the same text."""
    share = word_accuracy(model, patches(model)[None], [CAPTION])
    monkeypatch.setattr(type(model.lm.tokenizer), "decode", lambda self, tokens: "dog")
    ax = look.teacher_forced(model, patches(model), CAPTION)
    right = [text.get_text()[0] == look.TRUE for text in ax.texts]
    assert share < 1 and sum(right) / len(right) == pytest.approx(share)


def test_sequence_names_what_is_predicted(model):
    ax = look.sequence(model, "a red cube")
    texts = [t.get_text() for t in ax.texts]
    assert texts == ["<bos>", "image", "image", "image", "…", "image", "a", "a", "red", "red", "cube", "cube", "<eos>"]
    assert len(ax.patches) == 6 + 3
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts if text.get_text() != "<eos>"]
    inside = [patch.get_window_extent() for patch in ax.patches]
    read = [box for box in boxes if box.y0 < inside[0].y1]  # not those that are predicted
    assert all(word.x0 > box.x0 and word.x1 < box.x1 for word, box in zip(read, inside, strict=True))


def test_gallery():
    figure = look.gallery(torch.zeros(4, 8, 8, 3, dtype=torch.uint8), {"true": list("abcd"), "": list("efgh")})
    assert [ax.get_xlabel() for ax in figure.axes[:4]] == ["true: a\ne", "true: b\nf", "true: c\ng", "true: d\nh"]


CUBE = {"size": "small", "colour": "red", "material": "metal", "shape": "cube", "centre": (0, 0)}
BALL = {"size": "large", "colour": "blue", "material": "rubber", "shape": "sphere", "centre": (0, 3)}


@pytest.mark.parametrize("caption", [CAPTION, "we see a small red rubber cube left of a large red metal sphere", "no"])
def test_true_words_agree_with_the_score(caption):
    """Shares of true words by attribute are those that the grammar's score gives."""
    words, shares = look.true_words(caption, [CUBE, BALL]), grammar.score(caption, [CUBE, BALL])
    assert len(words) == (0 if caption == "no" else 9)
    true = [mark for _, mark in words]
    if words:
        by_attribute = {name: (true[i] + true[i + 5]) / 2 for i, name in enumerate(grammar.ATTRIBUTES)}
        assert by_attribute == {name: shares[name] for name in grammar.ATTRIBUTES}
        assert float(true[4]) == shares["relation"] and all(true) == bool(shares["everything"])


def test_written_marks_every_statement():
    pixels = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    right = grammar.captions([CUBE, BALL])[0]
    figure = look.written(pixels, [right, right.replace("red", "green")], [[CUBE, BALL]] * 2)
    texts = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert texts[:2] == [f"{look.TRUE} small", f"{look.TRUE} red"] and f"{look.FALSE} green" in texts
    assert figure.get_suptitle().startswith("17 of 18 statements are true")
    assert "1 of 2 captions" in figure.get_suptitle()


def test_what_is_outside_the_grammar_is_shown_and_is_not_true():
    pixels = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    right = grammar.captions([CUBE, BALL])[0]
    figure = look.written(pixels, [right, "a red red red"], [[CUBE, BALL]] * 2)
    assert "a red red red" in [text.get_text().replace("\n", " ") for ax in figure.axes for text in ax.texts]
    assert figure.get_suptitle().startswith("9 of 18 statements are true")
    assert "1 of 2 captions are true throughout" in figure.get_suptitle()


def test_text_loss_alone_and_behind_something(lm):
    """Against the model's own distribution; a text it knows is predicted better than the same words shuffled."""
    text = "the cube is small . it is made of metal ."
    tokens = torch.tensor([[0, *lm.tokenizer.encode(text), 1]])
    log_p = lm(lm.embed(tokens))[0][0].log_softmax(-1)
    expected = -log_p[range(len(tokens[0]) - 1), tokens[0, 1:]].mean().item()
    assert text_loss(lm, text) == pytest.approx(expected, rel=1e-5)
    assert text_loss(lm, "metal the is . cube of made small is . it") > 3 * expected
    words = lm.embed(torch.tensor([[5, 6, 7]]))
    log_p = lm(torch.cat([lm.embed(tokens[:, :1]), words, lm.embed(tokens[:, 1:])], 1))[0][0].log_softmax(-1)
    behind = -log_p[range(3, 2 + len(tokens[0])), tokens[0, 1:]].mean().item()
    assert text_loss(lm, text, words) == pytest.approx(behind, rel=1e-5)


def test_scenes_captioner_fits_the_embedded_models_alone(lm):
    with pytest.raises(PeftlabError, match="is for the embedded models, not test_vit"):
        load_scenes_captioner(load_backbone("test_vit", pretrained=False, img_size=32), lm)
