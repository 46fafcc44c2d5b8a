"""fit: frozen prefix, interruption and resumption, honest splits, clear stops."""

import pytest
import torch
from timm.loss import LabelSmoothingCrossEntropy
from timm.scheduler import CosineLRScheduler

from peftlab.backbones.load import load_backbone
from peftlab.backbones.protocols import NORMALISATIONS, Preprocessing, Protocol, Recipe, get_protocol
from peftlab.common.errors import DataError, PeftlabError
from peftlab.methods import attach
from peftlab.results.ledger import read_ledger
from peftlab.tasks.task import read_pixels
from peftlab.training import fit as fitting
from peftlab.training import loop
from peftlab.training import run as running
from peftlab.training.evaluate import evaluate, features, predict
from peftlab.training.fit import fit
from peftlab.training.loop import learning_rate, parameter_groups, shuffled

SMALL = {"epochs": 3, "batch_size": 8, "device": "cpu"}
EVERYTHING = {"epochs": 1, "cooldown_epochs": 2, "label_smoothing": 0.1, "augmentation": "randaugment"}
EVERYTHING |= {"gradient_checkpointing": True}


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return load_backbone("test_vit", pretrained=False, img_size=32)


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def test_learns_and_records(backbone, tiny_task):
    run = fit(attach(backbone, "full", 3), tiny_task, **SMALL | {"epochs": 8}, lr=1e-3)
    assert run.record["train_loss"] == run.curves["loss"].iloc[-1] < run.curves["loss"].iloc[0]
    assert run.record["train_accuracy"] == run.curves["accuracy"].iloc[-1] > run.curves["accuracy"].iloc[0]
    assert not run.model.training  # whoever asks it for logits has no dropout in them
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


def test_nothing_is_computed_once_where_blocks_are_dropped(backbone, tiny_task):
    """A frozen prefix would never be dropped."""
    model, calls = attach(backbone, "lora", 3, last_blocks=1), []
    model.vit.blocks[0].register_forward_hook(lambda *_: calls.append(1))
    fit(model, tiny_task, drop_path=0.1, **SMALL)
    assert len(calls) == 3 * 5  # every batch of every epoch


@pytest.mark.parametrize("method", ["lora", "linear"])  # trained on images, and on what frozen stages made of them
def test_images_are_read_as_the_protocol_says(method, tiny_task):
    """In training and where a run is measured: by its interpolation and normalisation, not the backbone's own."""
    model, seen = attach(load_backbone("test_vit", pretrained=False, img_size=48), method, 3), []
    model.vit.patch_embed.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    protocol = Protocol("other", "", Preprocessing("bilinear", "imagenet"))  # the backbone: bicubic, half
    fit(model, tiny_task, protocol=protocol, epochs=1, batch_size=36, device="cpu").evaluate("test")
    order = {"train800val200": shuffled(36, 0, 0) if method == "lora" else torch.arange(36), "test": torch.arange(16)}
    for images, (split, rows) in zip(seen, order.items(), strict=True):
        pixels = read_pixels(tiny_task.split(split)[0], (48, 48), "bilinear")[rows]
        mean, std = (torch.tensor(each).view(3, 1, 1) for each in NORMALISATIONS["imagenet"])
        torch.testing.assert_close(images, (pixels.permute(0, 3, 1, 2) / 255 - mean) / std)


def test_curves_are_means_over_images_though_the_last_batch_is_smaller(backbone, tiny_task):
    """At a learning rate that moves nothing, they are what `evaluate` says: 36 images are 4 batches of 8, and 4."""
    model = attach(backbone, "linear", 3)
    row = fit(model, tiny_task, **SMALL | {"epochs": 1}, lr=1e-12).curves.iloc[0]
    found = evaluate(model, tiny_task, "train800val200", device="cpu")
    assert (row["loss"], row["accuracy"]) == pytest.approx((found["loss"], found["accuracy"]), rel=1e-4)


def test_matrices_decay_and_vectors_do_not(backbone):
    groups = parameter_groups(attach(backbone, "full", 3), 0.3)
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    assert [{p.ndim > 1 for p in group["params"]} for group in groups] == [{True}, {False}]


def test_decay_is_adamws(backbone, tiny_task):
    """One step takes rate x decay of each weight away, whatever its gradient, of which Adam's decay is a part."""
    free, decayed = (attach(backbone, "linear", 3) for _ in range(2))
    at_start = free.vit.head.weight.detach().clone()
    for model, decay in ((free, 0.0), (decayed, 0.5)):
        how = SMALL | {"epochs": 1, "batch_size": 36, "lr": 0.1, "warmup_epochs": 0}
        fit(model, tiny_task, weight_decay=decay, **how)
    torch.testing.assert_close(free.vit.head.weight - decayed.vit.head.weight, 0.1 * 0.5 * at_start)
    assert torch.equal(free.vit.head.bias, decayed.vit.head.bias)


def test_every_epoch_and_seed_has_an_order_and_draws_of_its_own():
    orders, draws = set(), set()
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        orders.add(tuple(shuffled(36, seed, epoch).tolist()))
        draws.add(torch.rand(1).item())
    assert len(orders) == len(draws) == 3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("linear", {}),
        ("lora", {}),
        ("gist", {}),
        ("gist", EVERYTHING),
    ],
)
def test_interrupted_run_resumes_to_the_same_weights(
    method, more, precision, backbone, tiny_task, monkeypatch, tmp_path
):
    how = SMALL | {"precision": precision} | more
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


def test_a_training_image_in_the_test_split_is_refused(backbone, tiny_task, tmp_path):
    with (tiny_task.folder / "test.txt").open("a") as file:
        file.write("images/train800/000001.png 1\n")
    with pytest.raises(DataError, match="on which the result is measured"):
        fit(attach(backbone, "linear", 3), tiny_task, **SMALL, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


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


def test_what_is_measured_is_the_model_at_rest(backbone, tiny_task):
    """Without the dropout of training, also between two epochs of it."""
    model = attach(backbone, "gist", 3, dropout=0.9)
    at_rest = predict(model.vit, tiny_task, "test")
    assert torch.equal(predict(model.train().vit, tiny_task, "test"), at_rest)


def test_learning_rate_warms_up_and_decays():
    recipe = Recipe(epochs=10, lr=1.0, warmup_epochs=1, min_lr=0.1)
    rates = [learning_rate(step, 10, recipe) for step in range(101)]
    assert rates[0] == 0.1 and rates[9] == 1.0 and max(rates) == 1.0
    assert rates[100] == pytest.approx(0.1) and rates[55] == pytest.approx(0.55)
    small = Recipe(epochs=10, lr=0.01, warmup_epochs=1, min_lr=0.1)
    assert {learning_rate(step, 10, small) for step in range(10, 101)} == {0.01}  # it never rises to min_lr


@pytest.mark.parametrize(("epochs", "rates"), [(0.25, [0.8, 1.0]), (0.1, [1.0]), (0.6, [1 / 3, 2 / 3, 1.0])])
def test_a_warm_up_of_part_of_an_epoch_ends_at_the_rate(epochs, rates):
    """Of 1.25, 0.5 and 3 of 5 steps: none of them is beyond the recipe's rate."""
    found = [learning_rate(step, 5, Recipe(epochs=4, lr=1.0, warmup_epochs=epochs)) for step in range(20)]
    assert found[: len(rates)] == pytest.approx(rates) and max(found) <= 1.0


def timms(recipe, per_epoch, warmup, first):
    """timm's schedule from update `first` on, until `epochs` and the cooldown are over."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    decay = round((recipe.epochs - recipe.warmup_epochs) * per_epoch)
    schedule = CosineLRScheduler(
        optimizer,
        t_initial=decay,
        lr_min=recipe.min_lr,
        warmup_t=warmup,
        warmup_lr_init=recipe.lr / (recipe.warmup_epochs * per_epoch),
        warmup_prefix=True,
        t_in_epochs=False,
    )
    rates = []
    for step in range(recipe.total_epochs * per_epoch):
        schedule.step_update(step)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates[first:]


@pytest.mark.parametrize("cooldown", [0, 1, 3])
def test_learning_rate_is_timms_with_a_cooldown(cooldown):
    """Which comes after `epochs`. Our warm-up ends a step earlier, so that its last step has the whole rate."""
    recipe, per_epoch = Recipe(epochs=6, lr=0.5, warmup_epochs=2, min_lr=0.01, cooldown_epochs=cooldown), 5
    ours = [learning_rate(step, per_epoch, recipe) for step in range(recipe.total_epochs * per_epoch)]
    assert ours[:10] == pytest.approx(timms(recipe, per_epoch, warmup=9, first=0)[:10])
    assert ours[10:] == pytest.approx(timms(recipe, per_epoch, warmup=10, first=10))
    assert len(ours) == 5 * (6 + cooldown) and set(ours[30:]) <= {0.01} and ours[29] > 0.01


@pytest.mark.parametrize("method", ["norm", "gist"])
def test_label_smoothing_is_timms(method, backbone):
    """Every cross-entropy with the labels has it, the KLs between two answers do not."""
    model, x, y = attach(backbone, method, 3), torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    plain, smooth = (model.loss(model(x), y, smoothing) for smoothing in (0.0, 0.2))
    answers = {"loss" if method == "norm" else "ce_cls": model(x)}
    if method == "gist":
        answers["ce_gist"] = model.method.gist_logits(model.vit)
    for name, logits in answers.items():
        expected = LabelSmoothingCrossEntropy(0.2)(logits, y)
        assert smooth[name].item() == pytest.approx(expected.item()) != plain[name].item()
    if method == "gist":
        assert smooth["kl_cls_gist"] == plain["kl_cls_gist"]
        more = (smooth["ce_cls"] - plain["ce_cls"]) + 0.5 * (smooth["ce_gist"] - plain["ce_gist"])
        assert (smooth["loss"] - plain["loss"]).item() == pytest.approx(more.item(), abs=1e-6)


def test_smoothing_is_trained_with_and_not_measured_with(backbone, tiny_task, monkeypatch):
    model = attach(backbone, "linear", 3)
    run = fit(model, tiny_task, label_smoothing=0.5, **SMALL | {"epochs": 40, "batch_size": 36}, lr=0.05)
    logits, y = predict(model.vit, tiny_task, "train800val200"), torch.from_numpy(tiny_task.labels("train800val200"))
    found = run.curves["loss"].iloc[-1]
    assert found == pytest.approx(LabelSmoothingCrossEntropy(0.5)(logits, y).item(), rel=0.02)
    assert found > 1.1 * evaluate(model, tiny_task, "train800val200")["loss"]


def test_a_loss_that_takes_no_smoothing_is_refused(backbone, tiny_task, monkeypatch):
    model = attach(backbone, "norm", 3)
    monkeypatch.setattr(type(model.method), "loss", lambda self, vit, logits, labels: {"loss": logits.sum()})
    with pytest.raises(PeftlabError, match="loss of norm takes no label_smoothing, but the recipe has 0.1"):
        fit(model, tiny_task, label_smoothing=0.1, **SMALL)
    fit(model, tiny_task, label_smoothing=0.0, lr=1e-6, **SMALL)


def test_epochs_of_the_cooldown_come_after_the_others(backbone, tiny_task):
    run = fit(attach(backbone, "linear", 3), tiny_task, **SMALL, cooldown_epochs=2, min_lr=1e-4)
    assert run.curves["epoch"].tolist() == [1, 2, 3, 4, 5] and run.curves["lr"].tolist()[3:] == [1e-4, 1e-4]
    assert run.curves["lr"][2] > 1e-4 and (run.record["epochs"], run.record["cooldown_epochs"]) == (3, 2)


def test_drop_path_of_a_protocol_is_applied(backbone, tiny_task):
    model = attach(backbone, "norm", 3)
    run = fit(model, tiny_task, protocol="noah", epochs=1, batch_size=16, device="cpu")
    for name in ("drop_path1", "drop_path2"):  # it grows from block to block
        rates = [getattr(block.get_submodule(name), "drop_prob", 0.0) for block in model.vit.blocks]
        assert rates == pytest.approx([0, 0.02, 0.04, 0.06, 0.08, 0.1])
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


def test_what_is_measured_each_epoch_is_measured_as_the_protocol_says(backbone, tiny_task, monkeypatch):
    asked = []

    def evaluated(model, task, split, protocol="peftlab", device=None):
        asked.append((split, protocol))
        return {"accuracy": 0.5}

    monkeypatch.setattr(fitting, "evaluate", evaluated)
    model = attach(backbone, "linear", 3)
    run = fit(model, tiny_task, protocol="osu", evaluate_each_epoch=("test",), **SMALL)
    assert asked == 3 * [("test", run.spec.protocol)]
