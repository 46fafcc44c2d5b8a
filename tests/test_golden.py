"""A dozen short runs, every family among them, whose training losses are on record: rebuilding changes no number.

The losses in golden/losses.json were measured in fp32 on one CPU thread; other machines round differently, so they are
compared to 1e-3. Whoever changes a number on purpose writes it there and says why in the commit.
"""

import json
from pathlib import Path

import pytest

from peftlab import captioning
from peftlab.backbones.load import load_backbone
from peftlab.methods import attach
from peftlab.tasks.load import load_task
from peftlab.training.fit import fit

LOSSES = json.loads((Path(__file__).parent / "golden" / "losses.json").read_text())
SHORT = {"epochs": 2, "batch_size": 8, "train_images": 24, "seed": 1, "device": "cpu", "precision": "fp32"}
OPTIONS = {
    "lora": {"rank": 4},
    "fact": {"form": "tk", "rank": 4},
    "gift": {"clusters": 16},
    "gist parallel": {"base_method": "parallel"},
    "two_stage": {"channels": 8},
    "context_peft": {"rank": 4},
}


@pytest.fixture(scope="module")
def task():
    return load_task("clevr_count", root="synthetic")


@pytest.fixture(scope="module")
def backbone():
    return load_backbone()


@pytest.mark.parametrize("run", [name for name in LOSSES if not name.startswith("captions")])
def test_losses_of_methods(run, task, backbone):
    model = attach(backbone, run.split()[0], task.num_classes, **OPTIONS.get(run, {}))
    assert list(fit(model, task, train_split="train800", **SHORT).curves["loss"]) == pytest.approx(
        LOSSES[run], rel=1e-3
    )


def test_losses_of_captions(backbone):
    options = {"kind": "lora", "rank": 4, "contexts": "domain", "standardise": True}
    lm = captioning.load_language_model()
    model = captioning.Captioner(backbone, lm, "context_peft", grid=4, **options)
    run = captioning.fit(model, captioning.load_captions(), **SHORT)
    assert list(run.curves["loss"]) == pytest.approx(LOSSES["captions context_peft"], rel=1e-3)
