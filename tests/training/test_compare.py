"""A comparison within a time budget: what fits, what is trained, that it goes on as planned."""

import pandas as pd
import pytest
from support import small_vit

from peftlab.common.errors import PeftlabError
from peftlab.methods import attach
from peftlab.results.ledger import read_ledger
from peftlab.training import compare
from peftlab.training.compare import Comparison, forecast, trained
from peftlab.training.time_budget import RATES, fitting, outlook

SECONDS = {"linear": 10.0, "lora": 60.0, "full": 120.0, "norm": 50.0}


@pytest.mark.parametrize(
    ("minutes", "methods", "tuned"),
    [
        (0.3, [], False),  # linear with two seeds takes 20 s
        (0.4, ["linear"], False),
        (2.4, ["linear", "lora"], False),
        (4.5, ["linear", "lora", "norm"], False),  # what is cheaper and stands later still fits
        (8.1, ["linear", "lora", "full", "norm"], False),
        (20, ["linear", "lora", "full", "norm"], True),
    ],
)
def test_what_fits_is_taken_in_order(minutes, methods, tuned):
    plan = fitting(SECONDS, 2, minutes, 0.8)
    assert (plan.methods, plan.tuned) == (methods, tuned)
    assert plan.minutes <= minutes


def test_tuning_is_counted():
    final = 2 * sum(SECONDS.values())
    plan = fitting(SECONDS, 2, 60, 0.8)
    assert 60 * plan.minutes == pytest.approx(final + len(RATES) * 0.8 * sum(SECONDS.values()))


def test_the_outlook_names_what_is_left_out_and_refuses_nothing():
    text = outlook(fitting(SECONDS, 1, 2.1, 0.8))
    assert text.startswith("linear, lora, norm with 1 seed: about 2 of 2.1 minutes.") and "full (2 min)" in text
    assert "To choose learning rates would take 5 more: each method has its default" in text
    with pytest.raises(PeftlabError, match="nothing fits into 0.1 minutes: linear with 1 seed takes 0.2"):
        outlook(fitting(SECONDS, 1, 0.1, 0.8))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seeds": 0}, "seeds"),
        ({"minutes": 0}, "minutes"),
        ({"minutes": float("nan")}, "minutes"),
        ({"epochs": 0}, "epochs"),
        ({"methods": ("lora", "lora")}, "each once"),
        ({"methods": ()}, "at least one"),
        ({"methods": ("lore",)}, "did you mean 'lora'"),
    ],
)
def test_what_means_nothing_is_refused(wrong, message, tiny_task):
    with pytest.raises(PeftlabError, match=message):
        Comparison(small_vit(), tiny_task, **{"methods": ("linear",)} | wrong)


def comparison(task, **changes):
    given = {"methods": ("linear", "norm"), "seeds": 2, "minutes": 10, "epochs": 1, "batch_size": 12}
    return Comparison(small_vit(), task, **given | changes)


def test_runs_are_measured_once_trained_once_and_in_the_ledger(tiny_task, tmp_path, monkeypatch):
    runs = tmp_path / "ledger"
    plan = forecast(comparison(tiny_task), runs)
    assert plan.methods == ["linear", "norm"] and plan.tuned and all(s > 0 for s in plan.seconds.values())
    final = trained(comparison(tiny_task), plan, runs)
    assert final[["method", "seed"]].to_numpy().tolist() == [["linear", 0], ["linear", 1], ["norm", 0], ["norm", 1]]
    starts = [attach(small_vit(), name, 3, seed=seed).digest() for name in ("linear", "norm") for seed in (0, 1)]
    assert final["start"].tolist() == starts and len(set(starts)) == 4  # each seed has a head of its own
    assert final["test_accuracy"].between(0, 1).all() and (final["train_images"] == 36).all()
    assert len(list(runs.glob("tiny-*/run.json"))) == 2 * (len(RATES) + 2)
    tried = read_ledger(runs).query("train_split == 'train800'")
    assert len(tried) == 2 * len(RATES) and set(tried["seed"]) == {0}

    monkeypatch.setattr(compare, "seconds_a_step_image", None)  # would be called
    monkeypatch.setattr("peftlab.training.fit.train_run", None)
    assert forecast(comparison(tiny_task), runs) == plan
    pd.testing.assert_frame_equal(trained(comparison(tiny_task), plan, runs), final)


def test_another_length_is_another_forecast(tiny_task, tmp_path, monkeypatch):
    """Of twice the epochs, measured anew; tuning is on 24 of 36 images."""
    monkeypatch.setattr(compare, "seconds_a_step_image", lambda comparison, name: 1.0)
    monkeypatch.setattr(compare, "timed_look", lambda vit, task: 0.0)
    one, two = (forecast(comparison(tiny_task, methods=("linear",), epochs=n), tmp_path) for n in (1, 2))
    assert (one.seconds["linear"], two.seconds["linear"]) == (36, 72)
    assert 60 * one.tuning == pytest.approx(len(RATES) * 36 * 24 / 36)


def test_the_rate_is_the_best_of_val200(tiny_task, tmp_path, monkeypatch):
    task, plan = comparison(tiny_task, methods=("norm",)), fitting({"norm": 1}, 2, 10, 0.8)
    monkeypatch.setattr("peftlab.training.run.Run.metrics", property(lambda run: {"val_accuracy": -run.record["lr"]}))
    final = trained(task, plan, tmp_path / "ledger")
    assert final["lr"].tolist() == [pytest.approx(5e-3 / 3)] * 2


def test_an_interrupted_comparison_goes_on(tiny_task, tmp_path, monkeypatch):
    runs, plan, kept = tmp_path / "ledger", fitting({"linear": 1, "norm": 1}, 1, 0.04, 0.8), compare._run
    whole = trained(comparison(tiny_task, seeds=1), plan, tmp_path / "other")

    def stopped(given, job, runs):
        if job.method == "norm":
            raise KeyboardInterrupt
        return kept(given, job, runs)

    monkeypatch.setattr(compare, "_run", stopped)
    with pytest.raises(KeyboardInterrupt):
        trained(comparison(tiny_task, seeds=1), plan, runs)
    monkeypatch.setattr(compare, "_run", kept)
    again = trained(comparison(tiny_task, seeds=1), plan, runs)
    assert again["test_accuracy"].tolist() == whole["test_accuracy"].tolist()
    assert again["run"].tolist() == whole["run"].tolist()
