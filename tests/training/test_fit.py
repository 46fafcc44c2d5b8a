"""fit: frozen prefix, interruption and resumption, honest splits, clear stops."""

import pytest
import torch

from peftlab.backbones.load import load_backbone
from peftlab.backbones.protocols import Recipe, get_protocol
from peftlab.common.errors import PeftlabError
from peftlab.methods import attach
from peftlab.results.ledger import read_ledger
from peftlab.training import loop
from peftlab.training import run as running
from peftlab.training.evaluate import evaluate, features, predict
from peftlab.training.fit import fit
from peftlab.training.loop import learning_rate

SMALL = {"epochs": 3, "batch_size": 8, "device": "cpu"}


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return load_backbone("test_vit", pretrained=False, img_size=32)


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def test_learns_and_records(backbone, tiny_task):
    run = fit(attach(backbone, "full", 3), tiny_task, **SMALL | {"epochs": 8}, lr=1e-3)
    assert run.curves["loss"].iloc[-1] < run.curves["loss"].iloc[0]
    assert run.evaluate("test") == run.metrics["test_accuracy"] > 0.6
    row = read_ledger().iloc[0]
    assert row["synthetic"] and row["parameters"] == sum(p.numel() for p in backbone.parameters())
    assert (row["method"], row["epochs"], row["train_images"], row["train_split"]) == ("full", 8, 36, "train800val200")
    assert not list(run.folder.glob("*.part*")) and not (run.folder / "state.safetensors").exists()


@pytest.mark.parametrize(
    ("method", "options"), [("linear", {}), ("lora", {"last_blocks": 1}), ("vpt", {"last_blocks": 2})]
)
def test_frozen_prefix_changes_nothing_but_time(method, options, backbone, tiny_task, monkeypatch):
    cached = attach(backbone, method, 3, **options)
    fit(cached, tiny_task, **SMALL)
    monkeypatch.setattr(type(cached), "first_trainable_stage", lambda self: 0)
    plain = attach(backbone, method, 3, **options)
    fit(plain, tiny_task, **SMALL, reuse=False)
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(cached)[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("method", "options"), [("linear", {}), ("ssf", {"last_blocks": 1})])
def test_prefix_is_computed_once(method, options, backbone, tiny_task):
    model, calls = attach(backbone, method, 3, **options), []
    hook = model.vit.blocks[0].register_forward_hook(lambda *_: calls.append(1))
    fit(model, tiny_task, **SMALL)
    hook.remove()
    assert len(calls) == 1  # 36 images, one batch, however many epochs


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", ["linear", "lora", "gist"])
def test_interrupted_run_resumes_to_the_same_weights(method, precision, backbone, tiny_task, monkeypatch, tmp_path):
    how = SMALL | {"precision": precision}
    unbroken = attach(backbone, method, 3)
    fit(unbroken, tiny_task, **how, runs=tmp_path / "a")

    calls, original = [], loop.save_state

    def interrupt(*args):
        original(*args)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_state", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(attach(backbone, method, 3), tiny_task, **how, runs=tmp_path / "b")
    monkeypatch.setattr(loop, "save_state", original)
    (folder,) = (tmp_path / "b").iterdir()
    assert [p.name for p in folder.iterdir()] == ["state.safetensors"]  # two epochs kept, nothing partial

    resumed = attach(backbone, method, 3)
    run = fit(resumed, tiny_task, **how, runs=tmp_path / "b")
    assert len(run.curves) == 3
    for name, value in weights(unbroken).items():
        assert torch.equal(weights(resumed)[name], value), name


def test_test_split_opens_once(backbone, tiny_task, monkeypatch):
    run = fit(attach(backbone, "linear", 3), tiny_task, **SMALL)
    first = run.evaluate("test")
    monkeypatch.setattr(running, "measures", lambda *a, **k: pytest.fail("opened twice"))
    assert run.evaluate("test") == first
    assert run.record["test_opened"]


def test_opening_is_recorded_even_if_evaluation_crashes(backbone, tiny_task, monkeypatch):
    """And nothing is lost: nobody has seen a number yet, so it may be taken again; the first opening stays."""
    run = fit(attach(backbone, "linear", 3), tiny_task, **SMALL)
    monkeypatch.setattr(running, "measures", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run.evaluate("test")
    opened = run.record["test_opened"]
    assert opened and run.record["test_accuracy"] is None
    monkeypatch.setattr(running, "measures", lambda *a, **k: {"accuracy": 0.5})
    assert run.evaluate("test") == run.record["test_accuracy"] == 0.5 and run.record["test_opened"] == opened


def test_validation_on_training_images_is_refused(backbone, tiny_task):
    run = fit(attach(backbone, "linear", 3), tiny_task, **SMALL)
    with pytest.raises(PeftlabError, match="was trained on"):
        run.evaluate("val200")
    run = fit(attach(backbone, "linear", 3), tiny_task, **SMALL, train_split="train800")
    assert 0 <= run.evaluate("val200") == run.metrics["val_accuracy"] <= 1


def test_nan_stops_with_the_reason(backbone, tiny_task):
    with pytest.raises(FloatingPointError, match=r"full on tiny.*epoch \d+, step \d+.*Lower lr"):
        fit(attach(backbone, "full", 3), tiny_task, **SMALL | {"epochs": 20}, lr=1e6)


def test_wrong_head_and_recipe_are_refused(backbone, tiny_task):
    with pytest.raises(PeftlabError, match="the head has 5 classes"):
        fit(attach(backbone, "linear", 5), tiny_task)
    model = attach(backbone, "linear", 3)
    for wrong in ({"epochs": 0}, {"batch_size": 0}, {"lr": -1.0}):
        with pytest.raises(PeftlabError, match=next(iter(wrong))):
            fit(model, tiny_task, **wrong)
    with pytest.raises(PeftlabError, match="unknown protocol 'noa'; did you mean 'noah'"):
        fit(model, tiny_task, protocol="noa")


def test_features_and_predictions_have_the_stated_shapes(backbone, tiny_task):
    assert features(backbone, tiny_task, "test").shape == (16, 64)
    assert features(backbone, tiny_task, "test", stop=2, limit=5).shape == (5, 1 + 4, 64)
    model = attach(backbone, "linear", 3)
    logits = predict(model.vit, tiny_task, "test")
    assert logits.shape == (16, 3)
    expected = (logits.argmax(1).numpy() == tiny_task.labels("test")).mean()
    assert evaluate(model, tiny_task, "test")["accuracy"] == expected


def test_learning_rate_warms_up_and_decays():
    recipe = Recipe(epochs=10, lr=1.0, warmup_epochs=1, min_lr=0.1)
    rates = [learning_rate(step, 10, recipe) for step in range(101)]
    assert rates[0] == 0.1 and rates[9] == 1.0 and max(rates) == 1.0
    assert rates[100] == pytest.approx(0.1) and rates[55] == pytest.approx(0.55)


def test_drop_path_of_a_protocol_is_applied(backbone, tiny_task):
    model = attach(backbone, "norm", 3)
    run = fit(model, tiny_task, protocol="noah", epochs=1, batch_size=16, device="cpu")
    assert model.vit.blocks[-1].drop_path1.drop_prob == pytest.approx(0.1)
    assert run.record["drop_path"] == 0.1 and run.record["protocol"] == "noah"


def test_ledger_skips_a_damaged_row_with_a_warning(backbone, tiny_task, tmp_path):
    fit(attach(backbone, "linear", 3), tiny_task, **SMALL, runs=tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    with pytest.warns(UserWarning, match="broken"):
        assert len(read_ledger(tmp_path)) == 1


def test_linear_probe_equals_scikit_learn(backbone, tiny_task):
    """The same convex problem: our loop, run to convergence, gives scikit-learn's probabilities."""
    from sklearn.linear_model import LogisticRegression

    x, y = features(backbone, tiny_task, "train800val200"), tiny_task.labels("train800val200")
    decay = 0.05
    head = torch.nn.Linear(x.shape[1], 3)
    model = attach(backbone, "linear", 3)
    model.vit.head = head
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=500, line_search_fn="strong_wolfe", tolerance_grad=1e-9)
    target = torch.from_numpy(y)

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(head(x), target) + decay / 2 * head.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    oracle = LogisticRegression(C=1 / (decay * len(y)), max_iter=5000, tol=1e-8).fit(x.numpy(), y)
    ours = predict(model.vit, tiny_task, "test").softmax(1).numpy()
    theirs = oracle.predict_proba(features(backbone, tiny_task, "test").numpy())
    assert abs(ours - theirs).max() < 1e-3


def test_learning_rates_come_from_the_protocol_before_the_method(backbone, tiny_task):
    short = get_protocol("short")
    run = fit(attach(backbone, "norm", 3), tiny_task, protocol=short, epochs=1)
    assert run.record["lr"] == short.rates["norm"] != run.model.method.lr and run.record["img_size"] == 32


@pytest.mark.parametrize(
    ("method", "options"), [("linear", {}), ("lora", {}), ("gist", {}), ("lora", {"last_blocks": 1})]
)
def test_looking_is_recorded_and_changes_no_weight(method, options, backbone, tiny_task, tmp_path):
    """Evaluating after each epoch leaves the training alone, makes another run, and sees what `evaluate` sees."""
    blind, seeing = (attach(backbone, method, 3, **options) for _ in range(2))
    plain = fit(blind, tiny_task, train_split="train800", runs=tmp_path, **SMALL)
    run = fit(
        seeing, tiny_task, train_split="train800", runs=tmp_path, evaluate_each_epoch=("val200", "test"), **SMALL
    )
    for name, value in weights(blind).items():
        assert torch.equal(weights(seeing)[name], value)
    assert (
        run.folder != plain.folder
        and run.record["evaluated_each_epoch"] == "val200 test"
        and "evaluated_each_epoch" not in plain.record
    )
    assert len(run.curves) == 3 and "test_accuracy" not in plain.curves
    last = run.curves.iloc[-1]
    assert last["test_accuracy"] == evaluate(seeing, tiny_task, "test", device="cpu")["accuracy"]
    assert last["val200_accuracy"] == run.evaluate("val200") and "test_opened" not in run.record
