"""The trained runs that ship load on the embedded backbone and are what their cards and the table say."""

import warnings

import pandas as pd
import pytest
import torch

from peftlab.backbones.identity import described_once
from peftlab.backbones.load import load_backbone
from peftlab.common.errors import PeftlabError
from peftlab.results.published import read_results
from peftlab.tasks.load import load_task
from peftlab.training.evaluate import evaluate
from peftlab.training.trained import FOLDER, load_run, trained_runs


@pytest.fixture(scope="module")
def table():
    rows = pd.concat([read_results("strength"), read_results("synthetic")])
    return rows[rows["train_split"] == "train800val200"].set_index("run")


def test_they_are_few_and_small():
    size = sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file())
    assert len(trained_runs()) == len(list(FOLDER.iterdir())) == 24 and size < 8_000_000


def test_every_trained_run_loads_and_is_what_its_card_and_the_table_say(table, monkeypatch):
    vit = load_backbone("peftlab_vit_small", img_size=112)
    monkeypatch.setattr("peftlab.training.trained.load_backbone", lambda name, img_size: vit)  # once for all of them
    with described_once(vit):
        for name in set(trained_runs()) - {"clevr_count-full"}:
            check(name, load_run(name), table)


def check(name, run, table):
    row = table[table["adapter"] == run.record["adapter"]].iloc[0]
    task = row["task"] + "_synthetic" * int(row["synthetic"])
    assert name == f"{task}-{row['label'].replace(' ', '_')}" and row["seed"] == 0
    assert run.record["test_accuracy"] == row["test_accuracy"] and len(run.curves) == run.record["epochs"] == 10
    assert run.model.num_classes == row["classes"] and run.model.method_parameters == row["parameters"]
    card = (FOLDER / name / "README.md").read_text()
    assert f"{100 * row['test_accuracy']:.1f} %" in card and f"peftlab fit {row['method']} {row['task']}" in card
    head = run.model.vit.head.weight
    assert torch.equal(head, head.half().float())  # kept in fp16


def test_of_full_fine_tuning_record_and_curves_alone_ship():
    run = load_run("clevr_count-full")
    assert run.model is None and len(run.curves) == run.record["epochs"] == 10
    assert f"{100 * run.record['test_accuracy']:.1f} %" in (FOLDER / "clevr_count-full" / "README.md").read_text()


def test_a_larger_input_is_a_choice():
    with warnings.catch_warnings(action="error"):
        run = load_run("oxford_iiit_pet-linear", img_size=224)
    assert run.model.vit.patch_embed.img_size == (224, 224)


def test_a_name_that_is_not_there_is_answered_with_those_near_it():
    with pytest.raises(PeftlabError, match="did you mean 'oxford_iiit_pet-lora'"):
        load_run("oxford_iiit_pet-lorra")


def test_halving_its_numbers_changes_no_accuracy_by_more_than_two_images_of_111(real_root):
    """And so does the other device: they were trained on a GPU."""
    task = load_task("oxford_iiit_pet", real_root)
    for name in ("oxford_iiit_pet-gist_lora", "oxford_iiit_pet-two_stage"):
        run = load_run(name)
        assert evaluate(run.model, task, "test")["accuracy"] == pytest.approx(run.record["test_accuracy"], abs=0.0181)
