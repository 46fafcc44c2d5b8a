"""Pictures of captioning: spans, sizes and probabilities are what their names say."""

import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes

from peftlab.backbones.load import load_backbone
from peftlab.captioning import Captioner, load_language_model, load_scenes_captioner, text_loss, word_accuracy
from peftlab.captioning.metrics import token_losses
from peftlab.common.errors import PeftlabError
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


def test_span_attention_is_the_sum_over_words_and_heads(model):
    """Rows of the words as they are read, columns of the image tokens; row-major as the patches are."""
    heat = look.span_attention(model, patches(model), CAPTION, (3, 7), 1)
    tokens, _ = model.encode([CAPTION])
    weights = model.attention(patches(model)[None], tokens)[1][0]
    by_hand = torch.zeros(2, 2)
    for head in range(len(weights)):
        for word in (3, 4, 5, 6):
            for i in range(4):
                by_hand[i // 2, i % 2] += weights[head, 5 + word, 1 + i].detach()
    torch.testing.assert_close(heat, by_hand)
    assert look.pieces(model, CAPTION)[3:7] == ["small", "red", "metal", "cube"]
    ax = look.attention(model, torch.zeros(32, 32, 3, dtype=torch.uint8), patches(model), CAPTION, (3, 7), 1)
    assert ax.get_title() == "small red metal cube"
    pixels = torch.zeros(32, 32, 3, dtype=torch.uint8)
    pair = look.attention_with_image(model, pixels, patches(model), CAPTION, (3, 7), 1)
    assert [ax.get_title().replace("\n", " ") for ax in pair.axes] == [CAPTION, "small red metal cube"]
    figure = look.attention_by_block(model, pixels, patches(model), CAPTION, [(3, 7), (9, 13)])
    assert len(figure.axes) == 8 and figure.axes[4].get_ylabel() == "large\nblue\nrubber\nsphere"
    torch.testing.assert_close(torch.tensor(figure.axes[1].images[1].get_array()), heat)
    with pytest.raises(PeftlabError, match="words 3 to 99 are not in a caption of 13 tokens"):
        look.span_attention(model, patches(model), CAPTION, (3, 99), 1)


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
    assert [line.get_label() for line in look.context_norms(model).lines] == ["image", "text"]


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
    share = sum(b == w for b, w in zip(best, words, strict=True)) / len(words)
    assert word_accuracy(model, patches(model)[None], [CAPTION]) == pytest.approx(share)
    ax = look.teacher_forced(model, patches(model), CAPTION)
    assert [bar.get_height() for bar in ax.patches] == pytest.approx(right.tolist())


def test_sequence_names_what_is_predicted(model):
    ax = look.sequence(model, "a red cube")
    texts = [t.get_text() for t in ax.texts]
    assert texts[0] == "<bos>" and texts[-4:] == ["a", "red", "cube", "<eos>"] and len(ax.patches) == 6 + 3


def test_gallery_and_gains():
    figure = look.gallery(torch.zeros(4, 8, 8, 3, dtype=torch.uint8), {"true": list("abcd"), "": list("efgh")})
    assert [ax.get_xlabel() for ax in figure.axes[:4]] == ["true: a\ne", "true: b\nf", "true: c\ng", "true: d\nh"]
    ax = look.gains(pd.DataFrame({"agnostic": [3.0, 2.0], "by domain": [2.5, 1.5]}, index=["lora", "ia3"]), floor=1.2)
    assert isinstance(ax, Axes) and [b.get_height() for b in ax.patches] == [3.0, 2.0, 2.5, 1.5]


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


def test_by_data_names_the_best_for_each_amount():
    values = {"all weights": {50: 4.0, 800: 1.5}, "lora, by domain": {50: 2.0, 800: 1.8}}
    rows = [
        {"label": f"{way}, {n} scenes", "train_images": n, "test_perplexity": value + shift}
        for way, by_n in values.items()
        for n, value in by_n.items()
        for shift in (-0.1, 0.1)
    ]
    rows.append({"label": "lora, by domain, attention alone", "train_images": 800, "test_perplexity": 9.0})
    ax = look.by_data(pd.DataFrame(rows), {"all": "all weights", "LoRA": "lora, by domain"})
    assert ax.get_title(loc="left") == "best: LoRA (50 scenes); all (800 scenes)"
    means = [line.get_ydata().tolist() for line in ax.lines if line.get_label() in ("all", "LoRA")]
    assert means == [pytest.approx([4.0, 1.5]), pytest.approx([2.0, 1.8])]
