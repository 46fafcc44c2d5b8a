"""Whatever can change a result gives another run; the ledger hands out no number that belongs to another one."""

import copy
import shutil

import pytest
import torch
from PIL import Image
from support import small_vit
from timm.models.vision_transformer import VisionTransformer

from peftlab.backbones.load import load_backbone
from peftlab.common.errors import PeftlabError
from peftlab.methods import attach, load_adapter
from peftlab.tasks.task import Task
from peftlab.training.evaluate import evaluate
from peftlab.training.fit import fit

SMALL = {"epochs": 2, "batch_size": 8, "device": "cpu"}


def other(backbone, **changes):
    """The same weights, another backbone."""
    vit = copy.deepcopy(backbone)
    for name, value in changes.items():
        if name == "num_heads":
            for block in vit.blocks:
                block.attn.num_heads, block.attn.head_dim = value, vit.embed_dim // value
                block.attn.scale = block.attn.head_dim**-0.5
        elif name == "act":
            for block in vit.blocks:
                block.mlp.act = value
        elif name == "eps":
            vit.norm.eps = value
        elif name == "dropout":
            vit.blocks[0].mlp.drop1.p = value
        elif name in ("mean", "std"):
            vit.pretrained_cfg = vit.pretrained_cfg | {name: value}
        else:
            setattr(vit, name, value)
    return vit


OTHER_BACKBONES = {
    "heads": {"num_heads": 4},
    "activation": {"act": torch.nn.ReLU()},
    "epsilon": {"eps": 1e-3},
    "pooling": {"global_pool": "avg"},
    "dropout": {"dropout": 0.5},
    "mean": {"mean": (0.1, 0.2, 0.3)},
    "std": {"std": (0.1, 0.2, 0.3)},
}


@pytest.mark.parametrize("changes", OTHER_BACKBONES.values(), ids=OTHER_BACKBONES)
def test_another_backbone_with_the_same_weights(changes, tiny_task, tmp_path):
    backbone = small_vit()
    run = fit(attach(backbone, "lora", 3), tiny_task, **SMALL)
    vit = other(backbone, **changes)
    again = fit(attach(vit, "lora", 3), tiny_task, **SMALL)
    assert again.folder != run.folder
    with pytest.raises(PeftlabError, match="trained on backbone 'small'"):
        load_adapter(vit, run.folder)


def test_what_else_tells_runs_apart(tiny_task, monkeypatch):
    """Seed of the head, input size, what was trained before, the backbone's weights, precision."""
    backbone = load_backbone(img_size=32)
    fresh = lambda vit=backbone, **how: attach(vit, "norm", 3, **how)  # noqa: E731
    runs = {"plain": fit(fresh(), tiny_task, **SMALL)}
    runs["seed of the head"] = fit(fresh(seed=1), tiny_task, **SMALL)
    runs["input size"] = fit(fresh(load_backbone(img_size=40)), tiny_task, **SMALL)
    model = fresh()
    fit(model, tiny_task, **SMALL, lr=0.1)
    runs["trained before"] = fit(model, tiny_task, **SMALL)
    changed = load_backbone(img_size=32)
    with torch.no_grad():
        changed.blocks[0].norm1.weight[0] += 1e-3
    runs["weights"] = fit(fresh(changed), tiny_task, **SMALL)
    part = fresh()
    part.vit.head.bias.requires_grad_(False)
    runs["what is trained"] = fit(part, tiny_task, **SMALL)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    runs["precision"] = fit(fresh(), tiny_task, **SMALL)
    assert len({run.folder for run in runs.values()}) == len(runs)


def copied(task, folder):
    shutil.copytree(task.folder, folder / task.folder.name)
    return Task(task.name, task.group, task.about, task.classes, folder / task.folder.name, task.synthetic)


def test_another_task_under_the_same_name(tiny_task, tmp_path):
    """Images replaced under their names, classes in another order: other data, other runs."""
    start = lambda task: fit(attach(small_vit(), "linear", 3), task, **SMALL).folder  # noqa: E731
    before = start(tiny_task)
    assert start(copied(tiny_task, tmp_path / "a")) == before
    replaced = copied(tiny_task, tmp_path / "b")
    Image.new("RGB", (32, 32), "white").save(next((replaced.folder / "images" / "train800").iterdir()))
    reordered = Task("tiny", "natural", "", ("green", "red", "blue"), tiny_task.folder, synthetic=True)
    assert len({before, start(replaced), start(reordered)}) == 3


def test_an_outer_autocast_changes_nothing(tiny_task, tmp_path):
    plain, within = attach(small_vit(), "two_stage", 3), attach(small_vit(), "two_stage", 3)
    one = fit(plain, tiny_task, **SMALL, runs=tmp_path / "a")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        two = fit(within, tiny_task, **SMALL, runs=tmp_path / "b")
    assert plain.digest() == within.digest() and one.folder.name == two.folder.name


def test_an_adapter_works_at_another_input_size(tiny_task, tmp_path):
    """With a notice; on other weights never. What `full` made of the position embeddings is resampled."""
    small, large, random = load_backbone(img_size=32), load_backbone(), load_backbone(pretrained=False)
    for method in ("lora", "full", "vpt", "convpass", "context_peft"):
        run = fit(attach(small, method, 3), tiny_task, **SMALL, runs=tmp_path)
        with pytest.warns(UserWarning, match="trained at 32 x 32 px, used at 64 x 64"):
            model = load_adapter(large, run.folder)
        assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 3) and model.classes == tiny_task.classes
        with pytest.raises(PeftlabError, match="with weights"):
            load_adapter(random, run.folder)


def test_a_second_fit_of_a_model_returns_the_finished_run(tiny_task, monkeypatch):
    """What running a notebook cell twice does: no training, the same record, the test split opened once."""
    import peftlab.training.fit as training

    for method in ("lora", "two_stage"):
        model = attach(small_vit(), method, 3)
        run = fit(model, tiny_task, **SMALL)
        run.evaluate("test")
        record, after = run.record, model.digest()
        with monkeypatch.context() as patch:
            patch.setattr(training, "train_run", lambda run: pytest.fail("trained again"))
            again = fit(model, tiny_task, **SMALL)
            again.evaluate("test")
            assert fit(model, tiny_task, **SMALL).folder == again.folder == run.folder
        assert again.record == record and model.digest() == after
        assert fit(model, tiny_task, **SMALL, lr=0.01).folder != run.folder  # from where it is now


def test_a_ledger_without_the_last_run_of_a_model_has_another_one(tiny_task, tmp_path):
    """Trained on from where it is now, and not under the name of the one that began fresh."""
    model = attach(small_vit(), "lora", 3)
    one, two = (fit(model, tiny_task, **SMALL, runs=tmp_path / name) for name in "ab")
    assert two.folder.name != one.folder.name and two.record["start"] == one.record["adapter"]


def test_another_first_stage_is_another_run(tiny_task, monkeypatch):
    """Also where the model that asks for it is trained; for the first stage it has had, it is not trained again."""
    import peftlab.training.fit as training

    model, had = attach(small_vit(), "two_stage", 3), {"first_lr": 0.02, "first_epochs": 1}
    run = fit(model, tiny_task, **SMALL, **had)
    with monkeypatch.context() as patch:
        patch.setattr(training, "train_run", lambda run: pytest.fail("trained again"))
        assert fit(model, tiny_task, **SMALL, **had).folder == run.folder
    other = fit(model, tiny_task, **SMALL, first_lr=0.05, first_epochs=3)  # from where it is now
    assert other.folder != run.folder and other.before.record["lr"] == 0.05 and len(other.before.curves) == 3


def test_training_again_is_asked_for_and_keeps_every_opening(tiny_task, monkeypatch):
    run = fit(attach(small_vit(), "linear", 3), tiny_task, **SMALL)
    accuracy, first = run.evaluate("test"), run.record["test_opened"]
    again = fit(attach(small_vit(), "linear", 3), tiny_task, **SMALL, reuse=False)
    assert again.folder == run.folder and again.record["test_opened"] == first and "test_accuracy" not in again.record
    monkeypatch.setattr("peftlab.training.run._now", lambda: "later")
    assert again.evaluate("test") == accuracy and again.record["test_opened"] == f"{first} later"
    assert again.evaluate("test") == accuracy and again.record["test_opened"] == f"{first} later"


def test_a_run_evaluates_its_own_adapter(tiny_task):
    """Whatever its model has become since: trained on, changed by hand; a changed backbone is refused."""
    backbone = small_vit()
    model = attach(backbone, "lora", 3)
    run = fit(model, tiny_task, **SMALL)
    expected = evaluate(model, tiny_task, "val200")["accuracy"], evaluate(model, tiny_task, "test")["accuracy"]
    with torch.no_grad():
        model.vit.head.weight.neg_()
    assert evaluate(model, tiny_task, "test")["accuracy"] != expected[1] == run.evaluate("test")
    second = fit(model, tiny_task, **SMALL, train_split="train800")
    with torch.no_grad():
        backbone.blocks[0].norm1.weight.add_(1)
    with pytest.raises(PeftlabError, match="the backbone was changed since"):
        second.evaluate("val200")


@pytest.mark.parametrize("method", ["lora", "two_stage", "full"])
def test_a_failed_training_leaves_the_model_as_it_was(method, tiny_task, monkeypatch):
    """So the same call, on the same model in the same notebook, finds its run again and goes on."""
    import peftlab.training.loop as loop

    whole = fit(attach(small_vit(), method, 3), tiny_task, **SMALL, runs=tiny_task.folder / "whole")
    model = attach(small_vit(), method, 3)
    before, original = model.digest(), loop.save_state
    calls = []

    def interrupt(*args):
        original(*args)
        calls.append(1)
        if len(calls) == (3 if method == "two_stage" else 1):  # in the first epoch of its own training
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_state", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(model, tiny_task, **SMALL)
    assert model.digest() == before
    run = fit(model, tiny_task, **SMALL)
    assert run.folder.name == whole.folder.name and model.digest() == whole.model.digest() and len(run.curves) == 2


def test_weights_that_are_no_numbers_are_never_saved(tiny_task, monkeypatch):
    import peftlab.training.loop as loop

    step = torch.optim.AdamW.step

    def broken(self, *args):
        step(self, *args)
        self.param_groups[0]["params"][0].data.fill_(float("inf"))

    monkeypatch.setattr(loop.torch.optim.AdamW, "step", broken)
    with pytest.raises(FloatingPointError, match="epoch 1: vit.*holds NaN or infinity"):
        fit(attach(small_vit(), "linear", 3), tiny_task, epochs=1, batch_size=100, device="cpu")


def test_an_unknown_split_to_evaluate_leaves_no_folder(tiny_task, tmp_path):
    with pytest.raises(PeftlabError, match="unknown split 'tset'; did you mean 'test'"):
        fit(attach(small_vit(), "linear", 3), tiny_task, evaluate_each_epoch=["tset"], runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_rates_and_lengths_of_both_stages(tiny_task):
    """Each stage has its own; what they cost is counted together."""
    run = fit(attach(small_vit(), "two_stage", 3), tiny_task, **SMALL, protocol="short")
    first, second = run.before.record, run.record
    assert (first["lr"], second["lr"], first["epochs"]) == (0.02, 0.001, 2)  # rates of the protocol
    assert second["before"] == run.before.folder.name
    assert second["seconds"] == pytest.approx(run.curves["seconds"].sum() + first["seconds"], abs=0.01)
    other = fit(
        attach(small_vit(), "two_stage", 3), tiny_task, **SMALL, protocol="short", first_lr=0.1, first_epochs=1
    )
    assert other.before.record["lr"] == 0.1 and len(other.before.curves) == 1 and len(other.curves) == 2
    assert other.folder != run.folder
    alone = fit(attach(small_vit(), "norm", 3), tiny_task, **SMALL, protocol="short")
    assert alone.folder == run.before.folder  # stage 1 is the run of its method by itself
    with pytest.raises(PeftlabError, match="norm has one stage"):
        fit(attach(small_vit(), "norm", 3), tiny_task, **SMALL, first_lr=0.1)


def test_plain_timm_models_work_and_others_get_a_sentence(tiny_task):
    vit = VisionTransformer(32, 16, embed_dim=32, depth=1, num_heads=2, num_classes=0)
    with pytest.raises(PeftlabError, match="does not say how its images are normalised"):
        fit(attach(vit, "linear", 3), tiny_task, **SMALL)
    vit.pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    assert fit(attach(vit, "linear", 3), tiny_task, **SMALL).record["backbone"] == "VisionTransformer"
