"""Each method's equation, written out once more in plain tensor code, and oracles from outside."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from support import agree, attention_core, by_hand, tuned

from peftlab.backbones.load import load_backbone
from peftlab.methods import attach
from peftlab.tasks.task import Task
from peftlab.training.evaluate import features, predict
from peftlab.training.fit import fit

CLASSES = 3


@pytest.fixture(params=["test_vit", "test_vit2"])
def backbone(request):
    torch.manual_seed(0)
    return load_backbone(request.param, pretrained=False, img_size=64)


def x_like(backbone):
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def bottleneck(m, u, act):
    return act(u @ m.down.weight.T + m.down.bias) @ m.up.weight.T + m.up.bias


def test_adapter_equation(backbone):
    model, x = tuned(backbone, "adapter"), x_like(backbone)
    blocks = model.vit.blocks

    def attention(i, u):
        y = backbone.blocks[i].attn(u)
        return y + bottleneck(blocks[i].attn.proj.after, y, F.gelu)

    def mlp(i, u):
        y = backbone.blocks[i].mlp(u)
        return y + bottleneck(blocks[i].mlp.after, y, F.gelu)

    agree(model, by_hand(model, x, attention, mlp), x)
    pfeiffer = tuned(backbone, "adapter", placement="pfeiffer")
    blocks = pfeiffer.vit.blocks
    agree(pfeiffer, by_hand(pfeiffer, x, mlp=mlp), x)


def test_adaptformer_equation(backbone):
    model, x = tuned(backbone, "adaptformer", scale=0.7), x_like(backbone)

    def mlp(i, u):
        return backbone.blocks[i].mlp(u) + 0.7 * bottleneck(model.vit.blocks[i].mlp.parallel, u, F.relu)

    agree(model, by_hand(model, x, mlp=mlp), x)


def test_convpass_equation(backbone):
    """Every prefix token goes through the same convolution as an image of one pixel."""
    model, x = tuned(backbone, "convpass", scale=0.5), x_like(backbone)

    def branch(m, u):
        h = m.down(u)
        h = h * torch.sigmoid(1.702 * h)
        single = [m.conv(h[:, i, :, None, None])[..., 0, 0] for i in range(h.shape[1] - 16)]
        image = m.conv(h[:, -16:].transpose(1, 2).reshape(len(u), -1, 4, 4)).flatten(2).transpose(1, 2)
        h = torch.cat([torch.stack(single, 1), image], 1)
        return 0.5 * m.up(h * torch.sigmoid(1.702 * h))

    blocks = model.vit.blocks
    expected = by_hand(
        model,
        x,
        lambda i, u: backbone.blocks[i].attn(u) + branch(blocks[i].attn.parallel, u),
        lambda i, u: backbone.blocks[i].mlp(u) + branch(blocks[i].mlp.parallel, u),
    )
    agree(model, expected, x)


@pytest.mark.parametrize("deep", [True, False])
def test_vpt_equation(backbone, deep):
    """Also where timm resamples position embeddings on the fly, which must not count prompts as prefix tokens."""
    model, x = tuned(backbone, "vpt", deep=deep, prompts=3), x_like(backbone)
    assert backbone.dynamic_img_size and backbone.num_prefix_tokens == 1

    def enter(i, x):
        if not deep and i > 0:
            return x
        prompts = model.vit.blocks[i].prompts.tokens.expand(len(x), -1, -1)
        return torch.cat([x[:, :1], prompts, x[:, 1 + 3 * (deep and i > 0) :]], 1)

    tokens = torch.randn(2, 17, backbone.embed_dim)
    inside = model.vit.blocks[0].prompts.enter(None, (tokens,))[0]
    assert torch.equal(inside[:, 0], tokens[:, 0])  # prefix tokens keep their places, patches are the last ones
    assert torch.equal(inside[:, 4:], tokens[:, 1:])

    expected = by_hand(model, x, enter=enter)
    agree(model, torch.cat([expected[:, :1], expected[:, 4:]], 1), x)


def test_ia3_equation(backbone):
    model, x = tuned(backbone, "ia3"), x_like(backbone)

    def attention(i, u):
        block, scale = backbone.blocks[i], model.vit.blocks[i].attn.qkv.after.l
        ones = torch.ones(backbone.embed_dim)
        return block.attn.proj(attention_core(block, block.attn.qkv(u) * torch.cat([ones, scale["k"], scale["v"]])))

    def mlp(i, u):
        block = backbone.blocks[i]
        return block.mlp.fc2(block.mlp.act(block.mlp.fc1(u)) * model.vit.blocks[i].mlp.fc2.before.l["ff"])

    agree(model, by_hand(model, x, attention, mlp), x)


def test_lora_equation(backbone):
    targets = ("q", "v", "o", "fc1", "fc2")
    model, x = tuned(backbone, "lora", rank=2, alpha=3.0, targets=targets), x_like(backbone)

    def low_rank(layer, target, u):
        return 1.5 * u @ layer.A[target].T @ layer.B[target].T

    def attention(i, u):
        plain, block = backbone.blocks[i], model.vit.blocks[i]
        q, k, v = plain.attn.qkv(u).chunk(3, -1)
        qkv = torch.cat([q + low_rank(block.attn.qkv, "q", u), k, v + low_rank(block.attn.qkv, "v", u)], -1)
        y = attention_core(plain, qkv)
        return plain.attn.proj(y) + low_rank(block.attn.proj, "o", y)

    def mlp(i, u):
        plain, block = backbone.blocks[i], model.vit.blocks[i]
        y = plain.mlp.act(plain.mlp.fc1(u) + low_rank(block.mlp.fc1, "fc1", u))
        return plain.mlp.fc2(y) + low_rank(block.mlp.fc2, "fc2", y)

    agree(model, by_hand(model, x, attention, mlp), x)


@pytest.mark.parametrize("targets", [("q", "v"), ("q", "k", "v"), ("v", "k", "q")])
def test_lora_of_each_target_has_its_own_matrices(targets):
    """In whatever order they are named: the rows of a target change by its own B A."""
    layer = tuned(load_backbone(), "lora", rank=2, alpha=3.0, targets=targets).vit.blocks[0].attn.qkv
    for target, rows in layer.rows.items():
        torch.testing.assert_close(layer.delta()[rows], 1.5 * layer.B[target] @ layer.A[target])


@pytest.mark.parametrize("form", ["tt", "tk"])
def test_fact_equation(backbone, form):
    """Every D x D piece of every weight changes by s V S U, piece by piece."""
    model, D = tuned(backbone, "fact", form=form, rank=3, scale=2.0), backbone.embed_dim
    shared, merged = model.vit.blocks[0].shared, model.merge()
    for i in (0, len(backbone.blocks) - 1):
        for path in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
            layer = model.vit.blocks[i].get_submodule(path)
            was, now = (vit.blocks[i].get_submodule(path).weight for vit in (backbone, merged))
            for o in range(was.shape[0] // D):
                for j in range(was.shape[1] // D):
                    S = layer.S[o, j] if form == "tt" else torch.einsum("t,tsr->sr", layer.P[o, j], shared.C)
                    piece = (slice(o * D, (o + 1) * D), slice(j * D, (j + 1) * D))
                    expected = 2.0 * shared.V @ S @ shared.U
                    torch.testing.assert_close(now[piece] - was[piece], expected, atol=1e-5, rtol=1e-4)


def test_ssf_equation():
    """Written out for one block: a scale and a shift behind each of the layers."""
    torch.manual_seed(0)
    backbone = load_backbone("test_vit", pretrained=False, img_size=64)
    model, x = tuned(backbone, "ssf"), x_like(backbone)

    def affine(y, m):
        return y * m.after.scale + m.after.shift

    def attention(i, u):
        plain, block = backbone.blocks[i], model.vit.blocks[i]
        qkv = affine(plain.attn.qkv(affine(u, block.norm1)), block.attn.qkv)
        return affine(plain.attn.proj(attention_core(plain, qkv)), block.attn.proj)

    def mlp(i, u):
        plain, block = backbone.blocks[i], model.vit.blocks[i]
        y = plain.mlp.act(affine(plain.mlp.fc1(affine(u, block.norm2)), block.mlp.fc1))
        return affine(plain.mlp.fc2(y), block.mlp.fc2)

    def enter(i, tokens):  # the embedding's scale and shift come before the position embedding
        if i > 0:
            return tokens
        patches = affine(backbone.patch_embed(x), model.vit.patch_embed.norm)
        return backbone.norm_pre(backbone._pos_embed(patches))

    agree(model, affine(by_hand(model, x, attention, mlp, enter), model.vit.norm), x)


class Noise(Task):
    """A task with random images and labels: no line separates the classes, so the best linear fit is a finite one."""

    fingerprint = "none"

    def check_disjoint(self, train_split):
        """It has no lists."""

    def size(self, split):
        return 400

    def labels(self, split):
        return np.random.default_rng(1).integers(0, 3, 400)

    def pixels(self, split, size, rows, interpolation):
        noise = np.random.default_rng(2).integers(0, 256, (400, *size, 3), dtype=np.uint8)
        return torch.from_numpy(noise[list(rows)])


def test_linear_probe_agrees_with_logistic_regression(monkeypatch):
    """Trained to convergence (full batches, many steps) without weight decay, it finds what scikit-learn finds."""
    monkeypatch.setattr("peftlab.training.loop.save_state", lambda *args: None)  # 600 times, to take up none
    torch.manual_seed(0)
    backbone, task = (
        load_backbone("test_vit", pretrained=False, img_size=32),
        Noise("noise", "natural", "", tuple("abc"), Path(), True),
    )
    at_first = features(backbone, task, "train800")
    with torch.no_grad():  # features of mean 0 and deviation 1, on which a few hundred steps are enough
        backbone.norm.weight /= at_first.std(0)
        backbone.norm.bias.sub_(at_first.mean(0)).div_(at_first.std(0))
    model = attach(backbone, "linear", 3)
    fit(model, task, epochs=600, batch_size=400, lr=0.1, weight_decay=0.0, train_split="train800", device="cpu")
    x, y = features(backbone, task, "train800").numpy(), task.labels("train800")
    oracle = LogisticRegression(C=np.inf, max_iter=5000, tol=1e-8).fit(x, y)
    ours = predict(model.vit, task, "train800").softmax(-1).numpy()
    assert np.abs(ours - oracle.predict_proba(x)).max() < 0.02
    assert 0.4 < (ours.argmax(1) == y).mean() < 0.9  # something to learn, and not separable
