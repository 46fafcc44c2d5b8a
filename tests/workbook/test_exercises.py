"""Every exercise: the starter fails, the solution printed in the notebook passes, each known mistake gets its hint."""

import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import numpy as np
import pytest

from peftlab.methods import METHODS, Method, unfreeze
from peftlab.workbook.exercises import EXERCISES, check

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))

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
    ],
    "tasks.2": [lambda x: x / 2, lambda x: x % 16, lambda x: round(x / 2)],
    "tasks.3": ["test", "train800"],
    "tensors.1": [
        lambda depth, width, hidden: depth * (7 * width + hidden),
        lambda depth, width, hidden: depth * (5 * width + hidden) + 2 * width,
        lambda depth, width, hidden: depth * (5 * width + hidden),
        lambda depth, width, hidden: depth * 8 * width + 2 * width,
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
        lambda x, A, B, c, rank: B[:, c % rank :: rank] @ (A[c % rank :: rank] @ x),
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
    ],
    "compare.2": [
        lambda p: [min(1, len(p) * x) for x in p],
        lambda p: p,
        lambda p: [min(1, x * (len(p) - sorted(p).index(x))) for x in p],
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
    ],
    "compare.4": [
        lambda val, test: max(map(max, test.values())),
        lambda val, test: max(epochs[-1] for epochs in test.values()),
        lambda val, test: max(test[max(val, key=lambda lr: val[lr][-1])]),
        lambda val, test: max(epochs[-1] for epochs in val.values()),
    ],
}


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


def run(source):
    """Run a cell -> what its last check returned."""
    results = []
    exec(source, {"pl": type("pl", (), {"check": lambda name, answer: results.append(check(name, answer))}), "np": np})
    return results[-1]


@pytest.mark.parametrize(("name", "starter", "solution"), list(exercise_cells()))
def test_starter_fails_and_solution_passes(name, starter, solution, capsys):
    assert run(starter) is False
    assert run(solution + f'\npl.check("{name}", answer)') is True


@pytest.mark.parametrize("name", EXERCISES)
def test_each_known_mistake_gets_its_own_hint(name, capsys):
    hints = [hint for _, hint in EXERCISES[name].mistakes]
    assert len(MISTAKES[name]) == len(hints) == len(set(hints))
    for answer, hint in zip(MISTAKES[name], hints, strict=True):
        assert check(name, answer) is False
        assert hint in capsys.readouterr().out


def test_every_exercise_is_asked_in_a_notebook():
    assert sorted(p.id for p in exercise_cells()) == sorted(EXERCISES)


def test_answers_of_any_kind_are_survived(capsys):
    for name in EXERCISES:
        for answer in (..., None, "x", [], {}, np.zeros(3), lambda: 1, lambda *a: 1 / 0, float("nan")):
            assert check(name, answer) is False
    with pytest.raises(KeyError, match="tour.1"):
        check("tour.99", 1)
