"""A run is what its spec says: equal specs share a folder, and whatever differs has one of its own."""

from dataclasses import FrozenInstanceError, fields, replace

import pytest

from peftlab.backbones.load import load_backbone
from peftlab.backbones.protocols import Recipe, get_protocol
from peftlab.common.errors import PeftlabError
from peftlab.methods import METHODS, attach, create_method
from peftlab.training.spec import check_smoothing, make_spec

OTHER = {
    "synthetic": False,
    "img_size": (64, 32),
    "train_images": 35,
    "seed": 1,
    "protocol": get_protocol("noah"),
    "evaluate_each_epoch": ("val200",),
}


@pytest.fixture
def model():
    return attach(load_backbone("test_vit", pretrained=False, img_size=64), "lora", 3, rank=2)


def test_every_field_tells_runs_apart(model, tiny_task, tmp_path):
    spec = make_spec(model, tiny_task, epochs=2)
    assert spec == make_spec(model, tiny_task, epochs=2) and spec.folder(tmp_path) == spec.folder(tmp_path)
    changes = OTHER | {"before": make_spec(model, tiny_task, epochs=1)}
    others = [replace(spec, **{f.name: changes.get(f.name, "other")}) for f in fields(spec)]
    assert len({s.folder(tmp_path) for s in [spec, *others]}) == 1 + len(fields(spec))
    with pytest.raises(FrozenInstanceError):
        spec.seed = 2


def test_the_recipe_is_the_one_that_is_used(model, tiny_task):
    recipe = make_spec(model, tiny_task, epochs=3, warmup_epochs=1).protocol.recipe
    assert (recipe.epochs, recipe.warmup_epochs, recipe.lr) == (3, 1, model.method.lr)
    assert make_spec(model, tiny_task, lr=0.25).protocol.recipe.lr == 0.25
    assert make_spec(model, tiny_task, train_images=5).train_images == 5
    with pytest.raises(PeftlabError, match="unknown setting 'epoch'; did you mean 'epochs'"):
        make_spec(model, tiny_task, epoch=3)


def test_later_fields_tell_runs_apart_unless_they_are_at_their_default(model, tiny_task):
    spec, default = make_spec(model, tiny_task, epochs=2), Recipe()
    later = {"cooldown_epochs": 1, "label_smoothing": 0.1, "augmentation": "crop"}
    at_default = {name: getattr(default, name) for name in later}
    assert make_spec(model, tiny_task, epochs=2, **at_default) == spec
    assert not later.keys() & spec.protocol.recipe.content.keys()
    others = [make_spec(model, tiny_task, epochs=2, **{name: value}) for name, value in later.items()]
    assert len({s.name for s in [spec, *others]}) == 4
    same = make_spec(model, tiny_task, epochs=2, gradient_checkpointing=True)
    assert same == spec and same.name == spec.name and same.protocol.recipe.gradient_checkpointing


def test_every_method_takes_label_smoothing():
    check_smoothing([create_method(name) for name in METHODS], Recipe(label_smoothing=0.1))


@pytest.mark.parametrize(
    ("kind", "precision"),
    [("half", "fp32"), ("half", "bf16"), ("bfloat16", "fp32"), ("double", "fp32"), ("double", "bf16")],
)
def test_a_backbone_of_another_type_is_refused(kind, precision, tiny_task):
    """Before anything is computed, with the way out."""
    vit = getattr(load_backbone("test_vit", pretrained=False, img_size=32), kind)()
    found = {"half": "torch.float16", "bfloat16": "torch.bfloat16", "double": "torch.float64"}[kind]
    with pytest.raises(PeftlabError, match=rf"weights are {found}, .* in {precision} .*vit\.float\(\)"):
        make_spec(attach(vit, "lora", 3), tiny_task, precision=precision, device="cpu")
    assert make_spec(attach(vit.float(), "lora", 3), tiny_task, precision=precision, device="cpu").start


def test_a_backbone_in_bf16_is_trained_in_bf16(tiny_task):
    vit = load_backbone("test_vit", pretrained=False, img_size=32).bfloat16()
    assert make_spec(attach(vit, "lora", 3), tiny_task, precision="bf16", device="cpu").precision == "bf16"


@pytest.mark.parametrize("split", ["test", "val200", "train"])
def test_training_is_on_training_splits_only(split, model, tiny_task):
    with pytest.raises(PeftlabError, match=f"unknown training split '{split}'.*train800val200"):
        make_spec(model, tiny_task, train_split=split)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"lr": 0}, "lr is 0"),
        ({"lr": float("inf")}, "lr is inf"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"weight_decay": float("nan")}, "weight_decay is nan"),
        ({"weight_decay": -1.0}, "weight_decay is -1"),
        ({"drop_path": 1.5}, "drop_path is 1.5"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0, but must be at least 0 and below 1"),
        ({"label_smoothing": float("nan")}, "label_smoothing is nan"),
        ({"cooldown_epochs": -1}, "cooldown_epochs is -1"),
        ({"augmentation": "crops"}, "unknown augmentation 'crops'; did you mean 'crop'"),
        ({"gradient_checkpointing": "yes"}, "gradient_checkpointing is 'yes'; give True or False"),
        ({"train_images": 0}, "train_images is 0"),
        ({"train_images": -5}, "train_images is -5"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_a_value_that_means_nothing_is_refused(setting, message, model, tiny_task):
    with pytest.raises(PeftlabError, match=message):
        make_spec(model, tiny_task, **setting)
