"""Every exercise: the starter fails, the solution printed in the notebook passes, each known mistake gets its hint.

Whatever else is wrong with an answer (an exception, its arguments, its type, its shape) is said as it is.
"""

import copy
import inspect
import math
import re
import runpy
from dataclasses import dataclass

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from peftlab.backbones.load import load_backbone
from peftlab.backbones.stages import run_stages
from peftlab.common.paths import REPOSITORY
from peftlab.methods import METHODS, Method, attach, unfreeze
from peftlab.methods.gist import kl as kl_of_logits
from peftlab.workbook.exercises import EXERCISES, build, check
from peftlab.workbook.exercises.build import attention, lora, masked, oracle, taylor, vpt
from peftlab.workbook.exercises.explain import difference
from peftlab.workbook.run import find_notebooks

NOTEBOOKS = find_notebooks(REPOSITORY / "notebooks")

MERGES = {"lora": True, "ssf": True, "adapter": False, "adaptformer": False, "vpt": False}


def qkv_biases(self, vit):
    for block in self.blocks(vit):
        unfreeze(block.attn.qkv, "bias")


def three_widths(self, backbone):
    return 3 * backbone.embed_dim * len(self.blocks(backbone))


def method(apply=qkv_biases, count=three_widths, name="mine"):
    """A method as a reader may write it."""
    members = {"apply": apply, "count": count, "name": name, "family": "selective", "lr": 1e-3}
    return dataclass(frozen=True)(type("Mine", (Method,), members))


def started(A=None, B=None, trained=()):
    """LoRALinear with another start of A and B, and some tensors of its base trained."""

    class Started(lora.LoRALinear):
        def __init__(self, base, rank, scale):
            super().__init__(base, rank, scale)
            for name, start in (("A", A), ("B", B)):
                if start is not None:
                    getattr(self, name).data = start.clone()
            for name in trained:
                getattr(base, name).requires_grad_()

    return Started


# One wrong answer for each mistake of each exercise, in the order of its hints.
MISTAKES = {
    "tour.1": [1920, 202, 2_700_000],
    "tour.2": [
        lambda depth, width, rank: depth * 2 * width * rank,
        lambda depth, width, rank: depth * 6 * width * rank,
        lambda depth, width, rank: depth * 2 * width * width,
        lambda depth, width, rank: 4 * width * rank,
    ],
    "tour.3": [
        lambda W, A, B, scale: W + B @ A,
        lambda W, A, B, scale: scale * B @ A,
        lambda W, A, B, scale: scale * (W + B @ A),
        lambda W, A, B, scale: scale * A @ B,
    ],
    "tasks.1": [
        lambda train, test: (test == np.bincount(test).argmax()).mean(),
        lambda train, test: (train == np.bincount(train).argmax()).mean(),
        lambda train, test: 1 / len(set(train)),
        lambda train, test: 100 * (test == np.bincount(train).argmax()).mean(),
    ],
    "tasks.2": [lambda x: x / 2, lambda x: x % 16, lambda x: round(x / 2)],
    "tasks.3": ["test", "train800"],
    "tensors.1": [
        lambda depth, width, hidden: depth * (7 * width + hidden),
        lambda depth, width, hidden: depth * (5 * width + hidden) + 2 * width,
        lambda depth, width, hidden: depth * (5 * width + hidden),
        lambda depth, width, hidden: depth * 8 * width + 2 * width,
        lambda depth, width, hidden: depth * (6 * width + hidden) + 2 * width,
        lambda depth, width, hidden: depth * 7 * width + 2 * width,
        lambda depth, width, hidden: depth * (7 * width + hidden) + width,
    ],
    "tensors.2": [
        {"linear": 0, "lora_last": 5, "bitfit": 0},
        {"linear": 6, "lora_last": 6, "bitfit": 0},
        {"linear": 6, "lora_last": 0, "bitfit": 0},
        {"linear": 6, "lora_last": 5, "bitfit": 6},
    ],
    "tensors.3": [
        lambda accuracy, images: accuracy * (1 - accuracy) / images,
        lambda accuracy, images: (accuracy * (1 - accuracy)) ** 0.5 / images,
        lambda accuracy, images: (accuracy * (1 - accuracy)) ** 0.5,
    ],
    "families.1": [
        MERGES | {"adapter": True},
        MERGES | {"vpt": True},
        MERGES | {"lora": False},
        MERGES | {"ssf": False},
    ],
    "families.2": [
        lambda W, b, scale, shift: (scale[:, None] * W, scale * (b + shift)),
        lambda W, b, scale, shift: (scale[:, None] * W, b + shift),
        lambda W, b, scale, shift: (W, scale * b + shift),
        lambda W, b, scale, shift: (W * np.resize(scale, W.shape[1]), scale * b + shift),
    ],
    "families.3": [
        method(name="nowhere"),
        method(lambda self, vit: [block.attn.qkv.bias.requires_grad_() for block in self.blocks(vit)]),
        method(lambda self, vit: None),
        method(lambda self, vit: [unfreeze(block.attn.qkv, "weight", "bias") for block in self.blocks(vit)]),
        method(lambda self, vit: [unfreeze(block.attn.qkv, "bias") for block in vit.blocks]),
        method(count=lambda self, backbone: 3 * backbone.embed_dim),
    ],
    "gist.1": [196, 197, 209],
    "gist.2": [
        lambda p, q: (p * np.log(p / q)).sum(),
        lambda p, q: (q * np.log(q / p)).sum(),
        lambda p, q: ((p - q) * np.log(p / q)).sum() / 2,
        lambda p, q: ((p - q) * np.log(p / q)).mean(),
    ],
    "gist.3": [
        lambda row, prefix, patches: row[prefix:],
        lambda row, prefix, patches: row[1:] / row[1:].sum(),
        lambda row, prefix, patches: row[:patches] / row[:patches].sum(),
        lambda row, prefix, patches: row[prefix:] / row.sum(),
    ],
    "gift.1": [
        lambda depth, width, rank: depth * 2 * width * rank,
        lambda depth, width, rank: width * rank,
        lambda depth, width, rank: 2 * width * width,
    ],
    "gift.2": [
        lambda W, phi, psi: (np.eye(len(W)) + phi @ psi) @ W,
        lambda W, phi, psi: W + phi @ psi,
        lambda W, phi, psi: W @ phi @ psi,
    ],
    "gift.3": [
        lambda f: f - f.mean(0),
        lambda f: f - f.mean(),
        lambda f: np.repeat(f.mean(1)[:, None], f.shape[1], 1),
    ],
    "gift.4": [
        lambda a, b: 2 * (a & b).sum() / (a.sum() + b.sum()),
        lambda a, b: (a & b).sum() / b.sum(),
        lambda a, b: (a & b).sum() / a.sum(),
        lambda a, b: (a == b).mean(),
    ],
    "context.1": [
        lambda image, words: [0] * image + [1] * words,
        lambda image, words: [0] * (image + 1) + [1] * words,
        lambda image, words: [0] + [1] * image + [0] * words,
    ],
    "context.2": [
        lambda x, A, B, c, rank: B @ A @ x,
        lambda x, A, B, c, rank: B @ ((A @ x) * (np.arange(len(A)) % (len(A) // rank) == c)),
        lambda x, A, B, c, rank: B[:, c : c + rank] @ (A[c : c + rank] @ x),
        lambda x, A, B, c, rank: B[:, c] * (A[c] @ x),
    ],
    "context.3": [
        lambda rank, contexts, layers: sum(rank * (i + o) for i, o in layers),
        lambda rank, contexts, layers: sum(contexts * i * o for i, o in layers),
        lambda rank, contexts, layers: sum(contexts * rank * i for i, o in layers),
    ],
    "context.4": [
        lambda captions: np.mean([np.exp(-np.mean(c)) for c in captions]),
        lambda captions: np.exp(-np.mean([np.mean(c) for c in captions])),
        lambda captions: -np.mean([p for c in captions for p in c]),
        lambda captions: np.exp(np.mean([p for c in captions for p in c])),
    ],
    "two_stage.1": [
        lambda h, g: np.abs(h * g).sum(0),
        lambda h, g: (h * g).sum(0),
        lambda h, g: np.abs((h * g).sum(1)),
        lambda h, g: np.abs(g.sum(0)),
    ],
    "two_stage.2": [
        lambda scores, k: scores.argsort(kind="stable")[:k],
        lambda scores, k: np.flatnonzero(scores >= np.sort(scores)[-k]),
        lambda scores, k: np.sort(scores)[::-1][:k],
        lambda scores, k: np.argsort(scores)[::-1][:k],
    ],
    "two_stage.3": [
        lambda depth, width, k: depth * (k * k + k),
        lambda depth, width, k: depth * 4 * width + depth * (k * k + k),
        lambda depth, width, k: (2 * depth + 1) * 2 * width + depth * k * k,
        lambda depth, width, k: (2 * depth + 1) * width + depth * (k * k + k),
    ],
    "two_stage.4": [
        lambda a, b: len(a & b) / len(a),
        lambda a, b: len(a & b),
        lambda a, b: len(a & b) / (len(a) + len(b)),
    ],
    "compare.1": [
        lambda groups: np.mean(sum(groups.values(), [])),
        lambda groups: np.mean([sum(tasks) for tasks in groups.values()]),
        lambda groups: sum(np.mean(tasks) for tasks in groups.values()) / 3,
    ],
    "compare.2": [
        lambda p: [min(1, len(p) * x) for x in p],
        lambda p: p,
        lambda p: [min(1, x * (len(p) - sorted(p).index(x))) for x in p],
        lambda p: np.minimum(1, stepped(p)),
        lambda p: np.minimum(1, stepped(p))[np.argsort(p)],
        lambda p: stepped(p)[np.argsort(np.argsort(p))],
    ],
    "compare.3": [
        lambda costs, values: [values.index(max(values))],
        lambda costs, values: [
            i
            for i in range(len(costs))
            if all(
                (c < costs[i]) or (c == costs[i] and v <= values[i]) or v < values[i]
                for c, v in _others(i, costs, values)
            )
        ],
        lambda costs, values: [
            i
            for i in range(len(costs))
            if all(c >= costs[i] or v <= values[i] for c, v in zip(costs, values, strict=True))
        ],
        lambda costs, values: [
            i for i in range(len(costs)) if all(c > costs[i] or v < values[i] for c, v in _others(i, costs, values))
        ],
        lambda costs, values: [
            i
            for i in range(len(costs))
            if not any(c <= costs[i] and v >= values[i] for c, v in zip(costs, values, strict=True))
        ],
    ],
    "compare.4": [
        lambda val, test: max(map(max, test.values())),
        lambda val, test: max(epochs[-1] for epochs in test.values()),
        lambda val, test: max(test[max(val, key=lambda lr: val[lr][-1])]),
        lambda val, test: max(epochs[-1] for epochs in val.values()),
        lambda val, test: test[max(val, key=lambda lr: max(val[lr]))][-1],
    ],
    "build.1": [
        lambda attn, x: attention_by_hand(attn, x, scale=1),
        lambda attn, x: attention_by_hand(attn, x, scale=x.shape[2] ** 0.5),
        lambda attn, x: attention_by_hand(attn, x, scale=attn.head_dim),
        lambda attn, x: attention_by_hand(attn, x, softmax=lambda s: s.softmax(2)),
        lambda attn, x: attention_by_hand(attn, x, scores="bkhc,bqhc->bhqk"),
        lambda attn, x: attention_by_hand(attn, x, softmax=lambda s: s),
        lambda attn, x: attention_by_hand(attn, x, merge=lambda m: m.transpose(1, 2).reshape(x.shape)),
        lambda attn, x: attention_by_hand(attn, x, split=parts_as_heads_of_tokens),
        lambda attn, x: attention_by_hand(attn, x, split=lambda s, h: s.unflatten(2, (h, 3, -1)).unbind(3)),
        lambda attn, x: attention_by_hand(attn, x, heads=1),
        lambda attn, x: attention_by_hand(attn, x, proj=lambda mixed: mixed),
        lambda attn, x: attention_by_hand(attn, x, qkv=lambda x: x @ attn.qkv.weight.T),
        lambda attn, x: attention_by_hand(attn, x, proj=lambda mixed: mixed @ attn.proj.weight.T),
    ],
    "build.2": [
        lora.NoScale,
        lora.NoBias,
        lora.AllScaled,
        lora.MergedWithoutScale,
        lora.MergedAlone,
        started(A=torch.zeros(2, 6)),
        started(A=torch.zeros(2, 6), B=torch.ones(4, 2)),
        started(B=0.1 * torch.rand(4, 2)),
        started(A=torch.ones(2, 6)),
        started(trained=["weight", "bias"]),
    ],
    "build.3": [
        lambda x, prompts, n, before: torch.cat([x[:, :n], x[:, n + before :], each(prompts, x)], 1),
        lambda x, prompts, n, before: torch.cat([each(prompts, x), x[:, before:]], 1),
        lambda x, prompts, n, before: torch.cat([x[:, :1], each(prompts, x), x[:, 1 + before :]], 1),
        lambda x, prompts, n, before: torch.cat([x[:, :n], each(prompts, x), x[:, n + len(prompts) :]], 1),
        lambda x, prompts, n, before: x.index_add(1, n + torch.arange(len(prompts)), each(prompts, x)),
        lambda x, prompts, n, before: torch.cat([x[:, :n], each(prompts, x), x[:, n:]], 1),
        lambda x, prompts, n, before: torch.cat([x[:, :n], each(prompts, x), x[:, n : x.shape[1] - before]], 1),
        lambda x, prompts, n, before: torch.cat([x[:, before : before + n], each(prompts, x), x[:, before + n :]], 1),
        lambda x, prompts, n, before: x if before else torch.cat([x[:, :n], each(prompts, x), x[:, n:]], 1),
        lambda x, prompts, n, before: torch.cat([x[:, :n], each(prompts.detach(), x), x[:, n + before :]], 1),
    ],
    "build.4": [
        lambda cls, gist, labels, T: gist_by_hand(cls, gist, labels, T, lambda s: (s / T).softmax(1).log()),
        lambda cls, gist, labels, T: gist_by_kl_div(cls, gist, labels, T, F.log_softmax, F.log_softmax),
        lambda cls, gist, labels, T: gist_by_kl_div(cls, gist, labels, T, F.softmax, F.softmax),
        lambda cls, gist, labels, T: gist_by_hand(cls, gist, labels, T, half=1),
        lambda cls, gist, labels, T: gist_by_hand(cls, gist, labels, T, back=0),
        lambda cls, gist, labels, T: gist_by_hand(cls, gist, labels, T, there=0),
        lambda cls, gist, labels, T: gist_by_hand(cls, gist, labels, T, there=1, back=1),
        lambda cls, gist, labels, T: gist_by_hand(cls, gist, labels, 1),
        lambda cls, gist, labels, T: gist_by_hand(cls, gist, labels, T, teacher=torch.detach),
        lambda cls, gist, labels, T: gist_by_hand(cls, gist, labels, T, there=0.75 / 4, back=0.75 / 4),
        lambda cls, gist, labels, T: gist_by_hand(cls, gist, labels, T, there=0.75 * T**2, back=0.75 * T**2),
    ],
    "build.5": [
        lambda U, cluster, q, k, v, proj: paca_by_hand(U, cluster(U).softmax(1), q, k, v, proj),
        lambda U, cluster, q, k, v, proj: paca_by_hand(U, cluster(U), q, k, v, proj),
        lambda U, cluster, q, k, v, proj: paca_by_hand(U, cluster(U).sigmoid(), q, k, v, proj, norm=lambda z: z),
        lambda U, cluster, q, k, v, proj: paca_by_hand(U, cluster(U).sigmoid(), q, k, v, proj, scale=1),
        lambda U, cluster, q, k, v, proj: paca_by_hand(U, cluster(U).sigmoid(), q, k, v, proj, scale=U.shape[1]),
        lambda U, cluster, q, k, v, proj: paca_by_hand(U, cluster(U).sigmoid(), q, k, v, proj, axis=0),
        lambda U, cluster, q, k, v, proj: paca_by_hand(U, cluster(U).sigmoid(), q, k, v, lambda x: x),
    ],
    "build.6": [
        lambda vit, x, y: taylor.taylor(vit, x, y) / len(x),
        taylor.other_taylor(lambda h, g: torch.einsum("bnd,bnd->bnd", h, g).abs().mean(0).sum(0)),
        taylor.other_taylor(lambda h, g: torch.einsum("bnd,bnd->d", h, g) / len(h)),
        taylor.other_taylor(lambda h, g: (torch.einsum("bnd,bnd->d", h, g) / len(h)).abs()),
        taylor.other_taylor(lambda h, g: torch.einsum("bnd->bd", g).abs().mean(0)),
        taylor.other_taylor(taylor.first_order, read=lambda block: block),
        taylor.other_taylor(taylor.first_order, read=lambda block: block.norm2),
        lambda vit, x, y: watched_for_ever(vit, x, y),
    ],
    "build.7": [
        lambda x, A, B, c: sum(x @ a.T @ b.T for a, b in zip(A, B, strict=True)),
        lambda x, A, B, c: x @ A[0].T @ B[0].T,
        lambda x, A, B, c: masked.masked(x, A, B, 1 - c),
        lambda x, A, B, c: masked.masked(x, A, B, c) / 2,
        lambda x, A, B, c: torch.stack([x[:, t] @ A[i].T @ B.sum(0).T for t, i in enumerate(c)], 1),
        lambda x, A, B, c: x + masked.masked(x, A, B, c),
    ],
}


def attention_by_hand(
    attn, x, scale=None, scores="bqhc,bkhc->bhqk", softmax=lambda s: s.softmax(3), split=None, merge=None, **other
):
    """Heads stay behind their tokens, unlike in the package. other: heads, qkv, proj."""
    heads = other.get("heads", attn.num_heads)
    split = split or (lambda s, heads: (part.unflatten(2, (heads, -1)) for part in s.chunk(3, 2)))
    q, k, v = split(other.get("qkv", attn.qkv)(x), heads)
    weights = softmax(torch.einsum(scores, q, k) / (scale or q.shape[3] ** 0.5))
    mixed = torch.einsum("bhqk,bkhc->bqhc", weights, v)
    return other.get("proj", attn.proj)(merge(mixed) if merge else mixed.flatten(2))


def parts_as_heads_of_tokens(s, heads):
    B, N, _ = s.shape
    return [part.reshape(B, heads, N, -1).transpose(1, 2) for part in s.chunk(3, 2)]


def each(prompts, x):
    """The prompts for each image."""
    return prompts[None].repeat(len(x), 1, 1)


def gist_by_hand(cls, gist, labels, T, log_p=None, half=0.5, there=0.75, back=0.75, teacher=lambda s: s):
    log_p = log_p or (lambda s: (s / T).log_softmax(1))

    def kl(s, other):
        return (log_p(s).exp() * (log_p(s) - log_p(other))).sum(1).mean()

    both = there * kl(cls, teacher(gist)) + back * kl(gist, teacher(cls))
    return F.cross_entropy(cls, labels) + half * F.cross_entropy(gist, labels) + both


def detached_by_hand(cls, gist, labels, T, there, back):
    """there, back: which of its two logits a KL does not train, (first, second)."""

    def kl(s, other, fixed):
        return kl_of_logits(*(x.detach() if f else x for x, f in zip((s, other), fixed, strict=True)), T)

    ce = F.cross_entropy(cls, labels) + 0.5 * F.cross_entropy(gist, labels)
    return ce + 0.75 * (kl(cls, gist, there) + kl(gist, cls, back))


def gist_by_kl_div(cls, gist, labels, T, first, second):
    """first, second: what F.kl_div gets as its input and as its target, functions of logits / T."""

    def kl(s, other):
        return F.kl_div(first(other / T, 1), second(s / T, 1), reduction="batchmean")

    return gist_by_hand(cls, gist, labels, T, there=0, back=0) + 0.75 * (kl(cls, gist) + kl(gist, cls))


def paca_by_hand(U, C, q, k, v, proj, norm=lambda z: z / z.norm(dim=1, keepdim=True), scale=None, axis=1):
    Z = norm(C.T @ U)
    A = (q(U) @ k(Z).T / (scale or U.shape[1] ** 0.5)).softmax(axis)
    return C, Z, A, proj(A @ v(Z))


class Normal(lora.LoRALinear):
    """A by Kaiming's other rule: as wide in the mean, but without a bound."""

    def __init__(self, base, rank, scale):
        super().__init__(base, rank, scale)
        nn.init.kaiming_normal_(self.A, a=math.sqrt(5))


class Empty(lora.LoRALinear):
    """A as memory happens to be, which may have been a right A just before."""

    def __init__(self, base, rank, scale):
        super().__init__(base, rank, scale)
        self.A = nn.Parameter(torch.empty(rank, base.in_features))


def watched_for_ever(vit, x, y):
    """Right scores by hooks that stay."""
    streams = []
    for block in vit.blocks:
        block.norm2.register_forward_pre_hook(lambda m, args: streams.append(args[0]))
    gradients = torch.autograd.grad(F.cross_entropy(vit(x), y, reduction="sum"), streams)
    return torch.stack([taylor.first_order(*each) for each in zip(streams, gradients, strict=True)])


def stepped(p):
    """Holm's steps in sorted order, without a cap."""
    return np.maximum.accumulate(np.sort(p) * np.arange(len(p), 0, -1))


def early(val, test, rate):
    """The test accuracy at the epoch that is best on val."""
    return test[rate][int(np.argmax(val[rate]))]


def _others(i, costs, values):
    return [point for j, point in enumerate(zip(costs, values, strict=True)) if j != i]


@pytest.fixture(autouse=True)
def registry_as_it_was():
    """Solutions register methods; no other test shall meet them."""
    METHODS["mine"] = method()
    yield
    del METHODS["mine"]


def exercise_cells():
    """(name, starter source, solution source) of every checked cell; the solution is the <details> that follows it."""
    for file in NOTEBOOKS:
        cells = nbformat.read(file, as_version=4).cells
        for cell, following in zip(cells, [*cells[1:], None], strict=True):
            names = re.findall(r'check\("([\w.]+)"', cell.source) if cell.cell_type == "code" else []
            for name in names:
                block = re.search(r"<details>.*?```python\n(.*?)```", following.source, re.S)
                assert block, f"{file.name}: no <details> with a solution after exercise {name}"
                yield pytest.param(name, cell.source, block.group(1), id=name)


TORCH = {"math": math, "torch": torch, "nn": nn, "F": F}  # as a notebook imports them


def run(source):
    """Run a cell -> what its last check returned."""
    results = []
    pl = type("pl", (), {"check": lambda name, answer: results.append(check(name, answer))})
    exec(source, {"pl": pl, "np": np} | TORCH)
    return results[-1]


@pytest.mark.parametrize(("name", "starter", "solution"), list(exercise_cells()))
def test_starter_fails_and_solution_passes(name, starter, solution, capsys):
    assert run(starter) is False
    assert run(solution + f'\npl.check("{name}", answer)') is True


# Right answers in other styles than the notebooks' solutions.
RIGHT = {
    "gist.3": [
        lambda row, prefix, patches: row[-patches:] / row[-patches:].sum(),
        lambda row, prefix, patches: row[prefix : prefix + patches] / row[prefix : prefix + patches].sum(),
        lambda row, prefix, patches: row[prefix:] / (row.sum() - row[:prefix].sum()),
    ],
    "tasks.1": [lambda train, test: list(test).count(max(set(train), key=list(train).count)) / len(test)],
    "tensors.1": [lambda depth, width, hidden: sum([9 * width + hidden - 2 * width] * depth, 2 * width)],
    "context.2": [
        lambda x, A, B, c, rank: B[:, c * rank :][:, :rank] @ (A[c * rank :][:rank] @ x),
        lambda x, A, B, c, rank: B[:, c * rank : (c + 1) * rank] @ A[c * rank : (c + 1) * rank] @ x,
    ],
    "two_stage.2": [
        lambda scores, k: sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k],
        lambda scores, k: set(np.lexsort((np.arange(len(scores)), -scores))[:k].tolist()),
    ],
    "compare.1": [lambda groups: sum(sum(tasks) / len(tasks) for tasks in groups.values()) / len(groups)],
    "compare.2": [
        lambda p: np.minimum(1, stepped(p))[np.argsort(np.argsort(p))],
        lambda p: [min(1, max(stepped(p)[: sorted(p).index(x) + 1])) for x in p],
    ],
    "compare.3": [
        lambda costs, values: [
            i
            for i in range(len(costs))
            if all(
                c > costs[i] or v < values[i] or (c, v) == (costs[i], values[i])
                for c, v in zip(costs, values, strict=True)
            )
        ],
    ],
    "compare.4": [lambda val, test: test[sorted(val, key=lambda lr: -val[lr][-1])[0]][-1]],
    "build.2": [
        lora.LoRALinear,
        started(A=0.4 * torch.linspace(-1, 1, 12).reshape(2, 6)),
        lambda base, *rest: lora.LoRALinear(copy.deepcopy(base), *rest),
    ],
    "build.4": [
        gist_by_hand,
        lambda cls, gist, labels, T: gist_by_kl_div(cls, gist, labels, T, F.log_softmax, F.softmax),
    ],
    "build.5": [
        lambda U, cluster, q, k, v, proj: list(paca_by_hand(U, cluster(U).sigmoid(), q, k, v, proj)),
    ],
    "build.6": [taylor.other_taylor(taylor.first_order)],
}


@pytest.mark.parametrize(("name", "answer"), [(name, answer) for name, answers in RIGHT.items() for answer in answers])
def test_a_right_answer_in_another_style_is_right(name, answer, capsys):
    assert check(name, answer) is True


def test_a_row_of_gist_3_is_its_prefix_and_its_patches(capsys):
    def answer(row, prefix, patches):
        assert len(row) == prefix + patches
        return row[prefix:] / row[prefix:].sum()

    assert check("gist.3", answer) is True


def test_memory_that_was_never_written_is_nan_in_an_experiment():
    """It may hold what a right build drew just before."""
    before = torch.get_deterministic_debug_mode(), torch.get_rng_state()
    with oracle.seeded():
        assert torch.empty(2, 6).isnan().all()
    assert torch.get_deterministic_debug_mode() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_praise_speaks_only_of_what_was_looked_at(capsys):
    def one_by_one(x, A, B, contexts):
        return torch.stack([x[:, t] @ (B[c] @ A[c]).T for t, c in enumerate(contexts)], 1)

    assert check("build.7", one_by_one) is True
    assert not re.search("no loop|formed", capsys.readouterr().out, re.I)


@pytest.mark.parametrize("name", EXERCISES)
def test_each_known_mistake_gets_its_own_hint(name, capsys):
    hints = [hint for _, hint in EXERCISES[name].mistakes]
    assert len(MISTAKES[name]) == len(hints) == len(set(hints))
    for answer, hint in zip(MISTAKES[name], hints, strict=True):
        assert check(name, answer) is False
        assert hint in capsys.readouterr().out


# The same mistakes written in other ways: (answer, what the hint says).
ALSO = {
    "tasks.1": [(lambda train, test: 100 * test.tolist().count(np.bincount(train).argmax()) / len(test), "percent")],
    "two_stage.2": [
        (lambda scores, k: np.argsort(scores)[:k], "those are the least important ones"),
        (lambda scores, k: np.argsort(scores)[-k:], "ties go to the lower index"),
        (lambda scores, k: np.lexsort((-np.arange(len(scores)), -scores))[:k], "ties go to the lower index"),
    ],
    "context.2": [
        (
            lambda x, A, B, c, rank: B[:, c :: len(A) // rank] @ (A[c :: len(A) // rank] @ x),
            "the contexts lie one below another",
        ),
    ],
    "compare.2": [
        (lambda p: len(p) * np.array(p), "that is Bonferroni"),
        (stepped, "in the order in which p was given"),
        (lambda p: [x * (len(p) - sorted(p).index(x)) for x in p], "running maximum"),
    ],
    "compare.4": [
        (
            lambda val, test: early(val, test, max(val, key=lambda lr: max(val[lr]))),
            "the last epoch counts, on val, too",
        ),
        (
            lambda val, test: early(val, test, max(val, key=lambda lr: val[lr][-1])),
            "the last epoch counts, on val, too",
        ),
    ],
    "build.2": [
        (started(B=torch.ones(4, 2)), "B has to start at 0"),
        (started(A=torch.full((2, 6), 0.3)), "A is drawn Kaiming-uniform"),
        (started(A=torch.full((2, 6), math.nan)), "A is drawn Kaiming-uniform"),
        (started(A=1e-38 * torch.rand(2, 6)), "A is drawn Kaiming-uniform"),
        (started(A=0.4 * torch.rand(2, 6)), "A is drawn Kaiming-uniform"),
        (Normal, "A is drawn Kaiming-uniform"),
        (Empty, "A is drawn Kaiming-uniform"),
        (started(A=torch.randn(2, 6, generator=torch.Generator().manual_seed(0))), "A is drawn Kaiming-uniform"),
        (started(trained=["bias"]), "the base is trained, too"),
        (started(trained=["weight"]), "the base is trained, too"),
    ],
    "build.4": [
        (
            lambda cls, gist, labels, T: gist_by_kl_div(cls, gist, labels, T, F.softmax, F.log_softmax),
            "F.kl_div takes probabilities as its second argument, unless log_target=True",
        ),
        *(
            (lambda *case, fixed=fixed: detached_by_hand(*case, *fixed), "nothing is detached")
            for fixed in (((1, 0), (1, 0)), ((1, 0), (0, 1)), ((1, 1), (1, 1)))
        ),
        (lambda *case: gist_by_hand(*case).detach(), "nothing is detached"),
    ],
}


@pytest.mark.parametrize(
    ("name", "answer", "hint"), [(name, *mistake) for name, mistakes in ALSO.items() for mistake in mistakes]
)
def test_a_known_mistake_in_another_style_gets_its_hint(name, answer, hint, capsys):
    assert check(name, answer) is False
    assert re.search(rf"Hint: .*{re.escape(hint)}", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("name", "answer", "hint"),
    [
        ("tasks.1", lambda train, test: np.bincount(train).max() / len(test), "balanced"),
        ("build.4", lambda *case: math.nan * build.gist.gist_loss(*case), "log_softmax"),
        ("build.2", lora.AllScaled, "B has to start at 0"),
    ],
)
def test_a_hint_is_given_only_where_it_is_true(name, answer, hint, capsys):
    assert check(name, answer) is False
    assert hint not in capsys.readouterr().out


def test_what_stands_in_for_a_build_is_right(capsys):
    for number, right in ((1, attention.attention), (2, lora.LoRALinear), (3, vpt.put), (6, taylor.taylor)):
        assert check(f"build.{number}", right)


def test_the_prompts_of_build_3_give_what_vpt_gives():
    vit = VisionTransformer(16, 8, embed_dim=12, depth=2, num_heads=2, reg_tokens=1, num_classes=0).eval()
    tuned, x = attach(vit, "vpt", num_classes=3, prompts=4).vit, torch.randn(2, 3, 16, 16)
    tokens, before = run_stages(vit, x, stop=1), 0
    for plain, block in zip(vit.blocks, tuned.blocks, strict=True):
        tokens, before = plain(vpt.put(tokens, block.prompts.tokens, 2, before)), 4
    mine = vit.forward_head(vit.norm(vpt.put(tokens, torch.empty(0, 12), 2, before)))
    torch.testing.assert_close(tuned.head(mine), tuned(x))


@torch.no_grad()
def test_the_vit_of_build_1_equals_timms(capsys):
    """The notebook's own lines with its solution: registers and scaled channels, too."""
    vit, strong = load_backbone("peftlab_vit_mini"), load_backbone("peftlab_vit_small", img_size=56).double()
    x = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    solution = next(p.values[2] for p in exercise_cells() if p.id == "build.1")
    scope = TORCH | {"vit": vit, "x": x, "build": build, "attention_is_right": True}
    parts = re.compile(r"^def (embed|mlp|attention|run_block|vit_from_scratch)\(", re.M)
    cells = [c.source for c in nbformat.read(NOTEBOOKS[-1], as_version=4).cells if c.cell_type == "code"]
    for source in filter(parts.search, cells):
        exec(solution if "check(" in source else source, scope)
    for model, images, most in ((vit, x, 1e-6), (strong, x[..., :56, :56].double(), 1e-12)):
        mine = scope["vit_from_scratch"](model, images)[-1][:, 0]
        assert (mine - model(images)).norm() < most * mine.norm()


def test_a_mean_is_known_whether_repeated_or_not(capsys):
    check("gift.3", lambda f: f.mean(1, keepdims=True))
    assert "that is what all channels share" in capsys.readouterr().out


def test_every_exercise_is_asked_in_a_notebook():
    assert sorted(p.id for p in exercise_cells()) == sorted(EXERCISES)


# --- answers that are wrong in a way of their own --------------------------------------------------------------------


class OddError(Exception):
    """Nothing that the exercises could know."""


def odd(*case):
    raise OddError("so odd")


def deeper(result):
    """The same numbers with one axis more."""
    return tuple(map(deeper, result)) if isinstance(result, tuple) else np.asarray(result)[None]


def wrong_functions(right):
    """{what is wrong: (an answer, what the sentence about it must say)} for a right function."""
    names = list(inspect.signature(right).parameters)
    few, all_names, many = (", ".join(each) for each in (names[:-1], names, [*names, "another"]))
    count = len(names)
    return {
        "NameError": (
            eval(f"lambda {all_names}: undefined"),
            "NameError: name 'undefined' is not defined, when called",
        ),
        "an exception of its own": (odd, f"your answer raised OddError: so odd, when called with ({names[0]} "),
        "too few": (eval(f"lambda {few}: 0"), f"takes {count - 1} ({few}), but is called with {count} ({all_names})"),
        "too many": (
            eval(f"lambda {many}: 0"),
            f"takes {count + 1} ({many}), but is called with {count} ({all_names})",
        ),
        "shape": (lambda *case: deeper(right(*case)), "wrong shape: yours [1"),
        "text": (lambda *case: "x", "yours is 'x' (a text), expected "),
        "no return": (lambda *case: None, "yours gives None: its `return` is missing"),
        "a function": (lambda *case: odd, "yours is a function, expected "),
        "not called": (3, f"yours is 3 (a number), expected a function of {all_names}"),
        "None": (None, f"yours is None, expected a function of {all_names}"),
    }


# The same for answers that are no functions. Here what is expected must not be given away.
WRONG = {
    "tour.1": [
        (None, "yours is None, expected a number"),
        ("2,010", "yours is '2,010' (a text), expected a number"),
        ([2010], "wrong shape: yours [1], expected a single value"),
        (odd, "yours is a function, expected a number"),
        (1234, "yours 1234 is not right"),
        (float("nan"), "yours nan is not right"),
    ],
    "tasks.3": [
        (None, "yours is None, expected a text"),
        (200, "yours is 200 (a number), expected a text"),
        (["val200"], "wrong shape: yours [1], expected a single value"),
        ("training", "yours 'training' is not right"),
    ],
    "gist.1": [
        (None, "yours is None, expected a number"),
        (odd, "yours is a function, expected a number"),
        (np.ones((2, 2)), "wrong shape: yours [2, 2], expected a single value"),
        (12, "yours 12 is not right"),
        (10**30, "yours 1e+30 is not right"),
    ],
    "tensors.2": [
        (None, "yours is None, expected a dict with linear, lora_last, bitfit"),
        ([6, 5, 0], "yours is [6, 5, 0] (a list), expected a dict with linear, lora_last, bitfit"),
        ({}, "yours has nothing, expected a dict with linear, lora_last, bitfit"),
        ({"linear": 6}, "yours has linear, expected a dict with linear, lora_last, bitfit"),
        ({"linear": "six", "lora_last": 5, "bitfit": 0}, "linear: yours is 'six' (a text), expected a number"),
        ({"linear": 6, "lora_last": np.ones(2), "bitfit": 0}, "lora_last: wrong shape: yours [2], expected a single"),
        ({"linear": 6, "lora_last": 3, "bitfit": 0}, "lora_last: yours 3 is not right"),
    ],
    "families.1": [
        (None, "yours is None, expected a dict with lora, ssf, adapter, adaptformer, vpt"),
        (MERGES | {"vpt": "False"}, "vpt: yours is 'False' (a text), expected True or False"),
        (MERGES | {"vpt": None}, "vpt: yours is None, expected True or False"),
        (MERGES | {"ssf": 1}, "ssf: yours is 1 (a number), expected True or False"),
        (MERGES | {"ssf": np.array([True])}, "ssf: wrong shape: yours [1], expected a single value"),
        (MERGES | {"more": True}, "yours has lora, ssf, adapter, adaptformer, vpt, more, expected a dict with lora, "),
    ],
    "families.3": [
        (None, "yours is None, expected a class that extends Method"),
        ("mine", "yours is 'mine' (a text), expected a class that extends Method"),
        (odd, "yours is a function, expected a class that extends Method"),
        (dict, "yours is a class, expected a class that extends Method"),
        (method()(), "expected a class that extends Method"),
        (method(lambda self, vit: undefined), "NameError: name 'undefined' is not defined"),  # noqa: F821
        (method(count=lambda self, backbone: undefined), "NameError: name 'undefined' is not defined"),  # noqa: F821
        (method(odd), "OddError: so odd"),
        (method(lambda self: None), "takes 1 positional argument but 2 were given"),
        (method(lambda self, vit, more: None), "missing 1 required positional argument: 'more'"),
        (method(count=lambda self: 216), "takes 1 positional argument but 2 were given"),
        (method(count=lambda self, backbone: None), "count: yours gives None: its `return` is missing"),
        (method(count=lambda self, backbone: "x"), "count: yours is 'x' (a text), expected a number"),
        (method(count=lambda self, backbone: np.ones(3)), "count: wrong shape: yours [3], expected a single value"),
    ],
}


class Bare(nn.Module):
    """A layer without what the experiment asks for."""

    def __init__(self, base, rank, scale):
        super().__init__()
        self.base = base

    def forward(self, x):
        return self.base(x)


class Layers(Bare):
    """A and B as layers."""

    def __init__(self, base, rank, scale):
        super().__init__(base, rank, scale)
        self.A, self.B = nn.Linear(6, rank, bias=False), nn.Linear(rank, 4, bias=False)


class Transposed(Bare):
    """A and B as they stand in x A B."""

    def __init__(self, base, rank, scale):
        super().__init__(base, rank, scale)
        self.A, self.B = nn.Parameter(torch.rand(6, rank)), nn.Parameter(torch.zeros(rank, 4))


class Buffers(Bare):
    """A and B as plain tensors."""

    def __init__(self, base, rank, scale):
        super().__init__(base.requires_grad_(False), rank, scale)
        self.A, self.B = lora.LoRALinear(base, rank, scale).A.detach(), torch.zeros(4, rank)


class Silent(lora.LoRALinear):
    """forward without its return."""

    def forward(self, x):
        super().forward(x)


def not_yet(*case):
    raise NotImplementedError


for number, kind in enumerate(["function", "class", *["function"] * 5], 1):
    WRONG[f"build.{number}"] = [
        (None, f"yours is None, expected a {kind}"),
        (3, f"yours is 3 (a number), expected a {kind}"),
        (not_yet, "not built yet: write what stands for `raise NotImplementedError`"),
        (odd, "your answer raised OddError: so odd, when tried on small tensors"),
    ]
WRONG["build.1"] += [
    (lambda attn, x: None, "output: yours is None, expected a tensor of shape [2, 5, 12]"),
    (lambda attn, x: x[:1], "output: wrong shape: yours [1, 5, 12], expected [2, 5, 12]"),
]
WRONG["build.3"] += [
    (lambda *case: None, "tokens of block 1: yours is None, expected a tensor of shape [2, 9, 12]"),
    (lambda x, *rest: x, "tokens of block 1: wrong shape: yours [2, 6, 12], expected [2, 9, 12]"),
    (
        lambda x, prompts, n, before: None if before else vpt.put(x, prompts, n, before),
        "tokens of block 2: yours is None, expected a tensor of shape [2, 8, 12]",
    ),
]
WRONG["build.2"] += [
    (Bare, "AttributeError: 'Bare' object has no attribute 'A'"),
    (Layers, "A: yours is Linear"),
    (Transposed, "A: wrong shape: yours [6, 2], expected [2, 6]"),
    (Buffers, "trained tensors: yours 0, expected 2"),
    (Silent, "output at the start: yours is None, expected a tensor of shape [3, 4]"),
]
WRONG["build.4"] += [
    (lambda *case: case[0].sum() + case[1].sum(), "loss: yours "),
    (lambda *case: None, "loss: yours is None, expected a tensor of shape []"),
    (lambda *case: gist_by_hand(*case).item(), "(a number), expected a tensor of shape []"),
    (lambda *case: gist_by_hand(*case)[None], "loss: wrong shape: yours [1], expected []"),
]
WRONG["build.5"] += [
    (lambda U, *layers: (U, U, U, U), "C: wrong shape: yours [7, 6], expected [7, 3]"),
    (lambda *case: None, "tensors returned: yours 0, expected 4"),
    (lambda U, *layers: U, "tensors returned: yours 1, expected 4"),
    (lambda U, *layers: (U, U, U), "tensors returned: yours 3, expected 4"),
    (lambda U, cluster, *layers: (cluster(U).sigmoid(), "x", U, U), "Z: yours is 'x' (a text), expected a tensor of"),
    (lambda U, cluster, *layers: (cluster(U).sigmoid() / 0, U, U, U), "C: yours inf at [0, 0], expected "),
]
WRONG["build.6"].append((lambda vit, x, y: 2 * taylor.taylor(vit, x, y), "(shape [2, 24], largest error "))
WRONG["build.7"].append((lambda x, *rest: None, "output: yours is None, expected a tensor of shape [2, 5, 4]"))
FUNCTIONS = [p for p in exercise_cells() if p.id not in WRONG]


def test_how_to_begin_is_said_on_request(capsys):
    assert check("build.2", ..., hint=True) is False
    assert "[.., rank], and that @ B.T" in capsys.readouterr().out


@pytest.mark.parametrize("name", EXERCISES)
def test_every_exercise_says_how_to_begin(name):
    assert EXERCISES[name].help


def said(name, answer, capsys):
    """What is printed about a wrong answer."""
    assert check(name, answer) is False
    text = capsys.readouterr().out
    assert text.startswith(f"{name}: ") and "Traceback" not in text and "not yet" not in text
    return text


@pytest.mark.parametrize(("name", "starter", "solution"), FUNCTIONS)
def test_what_is_wrong_with_a_function_is_said(name, starter, solution, capsys):
    exec(solution, scope := {"np": np})
    for answer, sentence in wrong_functions(scope["answer"]).values():
        assert sentence in said(name, answer, capsys)


@pytest.mark.parametrize(
    ("name", "answer", "sentence"), [(name, *wrong) for name, wrongs in WRONG.items() for wrong in wrongs]
)
def test_what_is_wrong_with_another_answer_is_said(name, answer, sentence, capsys):
    assert sentence in said(name, answer, capsys)


@pytest.mark.parametrize(
    ("name", "answer", "sentence"),
    [
        ("tour.2", lambda depth, width, rank: 12, "for depth = 6, width = 192, rank = 8: yours 12, expected 36864."),
        ("tour.3", lambda W, A, B, scale: W[:2], "scale = 0.5: wrong shape: yours [2, 4], expected [4, 4]."),
        ("tour.3", lambda W, A, B, scale: 0 * W, "yours 0 at [0, 0], expected "),
        ("tasks.2", lambda x: x // 2 + x // 30, "for x = 30: yours 16, expected 15."),
        ("context.1", lambda image, words: [0, 1], "words = 12: wrong shape: yours [2], expected [77]."),
        ("compare.2", lambda p: [1, 1, 1], "p = [0.01, 0.04, 0.03]: yours [1, 1, 1], expected [0.03, 0.06, 0.06]."),
        ("compare.3", lambda costs, values: {2}, "values = [50, 70, 60, 80]: yours [2], expected [0, 1, 3]."),
        ("two_stage.4", lambda a, b: 0.123456789, "for a = {1, 2, 3}, b = {2, 3, 4}: yours 0.1234568, expected 0.5."),
        ("families.2", lambda W, b, scale, shift: W, "yours is [3, 4] (an array), expected a tuple of 2."),
        ("families.2", lambda W, b, scale, shift: (scale[:, None] * W, W), "part 2: wrong shape: yours [3, 4], "),
    ],
)  # fmt: skip
def test_yours_stands_beside_what_is_expected(name, answer, sentence, capsys):
    assert sentence in said(name, answer, capsys)


def test_the_readers_own_line_is_shown(tmp_path, capsys):
    (tmp_path / "cell.py").write_text(
        "def answer(W, A, B, scale):\n    change = B @ A @ undefined\n    return W + change\n"
    )
    answer = runpy.run_path(str(tmp_path / "cell.py"))["answer"]
    assert said("tour.3", answer, capsys) == (
        "tour.3: your answer raised NameError: name 'undefined' is not defined, when called with "
        "(W [4, 4], A [2, 4], B [4, 2], scale = 0.5), in the line `change = B @ A @ undefined`.\n"
    )


def test_an_answer_may_change_what_it_is_given(capsys):
    def merge(W, A, B, scale):
        W += scale * B @ A
        return W

    def least(captions):
        tokens = captions.pop()
        while captions:
            tokens += captions.pop()
        return np.exp(-np.mean(tokens))

    for _ in range(2):
        assert check("tour.3", merge) is True
        assert check("context.4", least) is True


def test_an_interruption_is_not_swallowed():
    def interrupted(*case):
        raise KeyboardInterrupt

    for name in ("tour.3", "compare.3"):
        with pytest.raises(KeyboardInterrupt):
            check(name, interrupted)


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_that_speaks_of_arrays_imports_numpy(file):
    cells = nbformat.read(file, as_version=4).cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    if re.search(r"\bnp\.|\bnumpy\b|\barrays\b", prose, re.I) or re.search(r"\bnp\.", code):
        assert re.search(r"^import numpy as np\b", code, re.M)


def test_an_answer_is_right_to_a_millionth():
    for expected in (1536, 0.25, [1.0, 2.0], "lora"):
        assert difference(expected, expected) == ""
    assert difference(0.25 * (1 + 5e-7), 0.25) == "" and difference([1.0, 2.0 * (1 - 5e-7)], [1.0, 2.0]) == ""
    assert difference(0.25 * (1 + 5e-6), 0.25) and difference([1.0, 2.0 * (1 - 5e-6)], [1.0, 2.0])
    assert difference(1e-9, 0.0)  # relative alone: nothing is near 0 but 0


def test_answers_of_any_kind_are_survived(capsys):
    for name in EXERCISES:
        for answer in (
            ...,
            None,
            "x",
            [],
            {},
            np.zeros(3),
            lambda: 1,
            lambda *a: 1 / 0,
            float("nan"),
            {"x": np.ones(2)},
        ):
            assert check(name, answer) is False
    with pytest.raises(KeyError, match="tour.1"):
        check("tour.99", 1)
