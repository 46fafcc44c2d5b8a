"""Grids: what is refused before anything runs, in one sentence each, and what is understood."""

import os
import pickle
import shutil
from itertools import pairwise
from string import ascii_lowercase

import pytest
import torch
import yaml

from peftlab.backbones.load import load_backbone
from peftlab.common.errors import PeftlabError
from peftlab.methods import METHODS, create_method
from peftlab.training.grid import Grid, grid_methods, read_grid


@pytest.fixture
def grid_file(tiny_task, tmp_path):
    """Writes a grid over one small real-shaped task; keys given replace those of the grid, a text all of it."""
    shutil.copytree(tiny_task.folder, tmp_path / "root" / "eurosat")

    def write(text=None, **changes):
        content = {"tasks": ["eurosat"], "root": str(tmp_path / "root"), "methods": {"linear": {}}} | changes
        file = tmp_path / "grid.yaml"
        file.write_text(yaml.safe_dump(content) if text is None else text.replace("ROOT", str(tmp_path / "root")))
        return file

    return write


def lora(**entry):
    return {"methods": {"lora": entry}}


# 6 to the power of 25 values in 1 kB, each an alias of those before.
BOMB = "a: &a [x]\n" + "".join(f"{b}: &{b} [{', '.join(6 * [f'*{a}'])}]\n" for a, b in pairwise(ascii_lowercase))
START = "tasks: [eurosat]\nroot: ROOT\n"

# What stands instead in the grid -> words of the message.
BAD = [
    # names
    ({"taks": []}, r"unknown key 'taks'; did you mean 'tasks'"),
    ({"tasks": ["eurosta"]}, r"tasks: unknown task 'eurosta'; did you mean 'eurosat'"),
    ({"tune_on": ["dtdd"]}, r"tune_on: unknown task 'dtdd'; did you mean 'dtd'"),
    ({"protocol": "nohea"}, r"unknown protocol 'nohea'; did you mean 'noah'"),
    ({"methods": {"lorra": {}}}, r"methods.lorra: unknown method 'lorra'; did you mean 'lora'"),
    ({"methods": {"thin": {"method": "lorra"}}}, r"methods.thin: unknown method 'lorra'; did you mean 'lora'"),
    ({"evaluate_each_epoch": ["tset"]}, r"evaluate_each_epoch: unknown split 'tset'; did you mean 'test'"),
    ({"recipe": {"epoch": 2}}, r"unknown key 'recipe.epoch'; did you mean 'epochs'"),
    (lora(rnak=2), r"methods.lora: unknown key 'rnak'; did you mean 'rank'"),
    (lora(learning_rate=0.1), r"methods.lora: unknown key 'learning_rate'.*Known: .*lr"),
    ({"methods": {"linear": {"rank": 2}}}, r"methods.linear: unknown key 'rank'"),
    ({"methods": {"gist": {"base_method": "vptt"}}}, r"methods.gist: gist cannot be put around 'vptt'"),
    ({"methods": {"gist": {"base_method": "vpt", "rank": 2}}}, r"methods.gist: unknown key 'rank'.*Known: .*prompts"),
    ({"recipe": {"augmentation": "crops"}}, r"methods.linear: unknown augmentation 'crops'; did you mean 'crop'"),
    (lora(label_smoothing=1), r"methods.lora: label_smoothing is 1.0, but must be at least 0 and below 1"),
    # kinds
    ({"tasks": "eurosat"}, r"tasks is 'eurosat', but should be a valid list"),
    ({"tasks": [1]}, r"tasks.0 is 1, but should be a valid string"),
    ({"seeds": 3}, r"seeds is 3, but should be a valid list"),
    ({"seeds": ["one"]}, r"seeds.0 is 'one', but should be a valid integer"),
    ({"seeds": [0.5]}, r"seeds.0 is 0.5, but should be a valid integer"),
    ({"seeds": [True]}, r"seeds.0 is True, but must be a finite number"),
    ({"methods": ["lora"]}, r"methods is \['lora'\], but should be a valid dictionary"),
    ({"methods": {"lora": 4}}, r"methods.lora is 4, but should be a valid dictionary"),
    ({"methods": {"any": {"method": ["lora", "ssf"]}}}, r"methods.any: method is \['lora', 'ssf'\], but must be one"),
    ({"evaluate_each_epoch": "test"}, r"evaluate_each_epoch is 'test', but should be a valid list"),
    ({"tune_on": "eurosat"}, r"tune_on is 'eurosat', but should be a valid list"),
    ({"recipe": [1]}, r"recipe is \[1\], but should be a valid dictionary"),
    ({"recipe": {"epochs": [1, 2]}}, r"recipe.epochs is \[1, 2\], but should be a valid integer"),
    ({"recipe": {"epochs": 2.5}}, r"recipe.epochs is 2.5, but should be a valid integer"),
    ({"recipe": {"lr": "fast"}}, r"recipe.lr is 'fast', but should be a valid number"),
    ({"img_size": "large"}, r"img_size is 'large', but should be a valid integer"),
    ({"backbone": 16}, r"backbone is 16, but should be a valid string"),
    (lora(rank="eight"), r"methods.lora: rank is 'eight', but should be a valid integer"),
    (lora(rank=True), r"methods.lora: rank is True, but must be a finite number"),
    (lora(rank=2.5), r"methods.lora: rank is 2.5, but should be a valid integer"),
    (lora(rank=None), r"methods.lora: rank is None, but should be a valid integer"),
    (lora(rank=[[2, 4]]), r"methods.lora: rank is \[2, 4\], but should be a valid integer"),
    (lora(alpha=float("nan")), r"methods.lora: alpha is nan, but must be a finite number"),
    (lora(lr="quick"), r"methods.lora: lr is 'quick', but should be a valid number"),
    ({"methods": {"vpt": {"deep": 2}}}, r"methods.vpt: deep is 2, but must be of type bool"),
    # ranges
    ({"seeds": [-1]}, r"seeds.0 is -1, but should be greater than or equal to 0"),
    ({"seeds": [2**40]}, r"seeds.0 is 1099511627776, but should be less than"),
    ({"train_images": 0}, r"train_images is 0, but should be greater than or equal to 1"),
    ({"img_size": 0}, r"img_size is 0, but should be greater than or equal to 1"),
    ({"recipe": {"epochs": 0}}, r"methods.linear: epochs is 0, but must be at least 1"),
    ({"recipe": {"lr": float("inf")}}, r"recipe.lr is inf, but must be a finite number"),
    (lora(lr=[1e-3, -1]), r"methods.lora: lr is -1.0, but must be greater than 0"),
    (lora(weight_decay=-1), r"methods.lora: weight_decay is -1.0, but must be at least 0"),
    ({"methods": {"two_stage": {"first_epochs": 0}}}, r"methods.two_stage: the first stage: epochs is 0"),
    # empty, twice, too many
    ({"tasks": []}, r"tasks is \[\], but list should have at least 1 item"),
    ({"seeds": []}, r"seeds is \[\], but list should have at least 1 item"),
    ({"methods": {}}, r"methods is \{\}, but dictionary should have at least 1 item"),
    ({"tune_on": []}, r"tune_on is \[\], but list should have at least 1 item"),
    ({"methods": {"": {"method": "lora"}}}, r"methods.*should have at least 1 character"),
    (lora(rank=[]), r"methods.lora: an empty list leaves nothing to try"),
    ({"tasks": ["eurosat", "eurosat"]}, r"tasks .* 'eurosat' stands there twice"),
    ({"seeds": [0, 0]}, r"seeds is \[0, 0\], but must name each once, and 0 stands there twice"),
    ({"seeds": [1, "1"]}, r"seeds .* 1 stands there twice"),
    ({"evaluate_each_epoch": ["test", "test"]}, r"evaluate_each_epoch .* 'test' stands there twice"),
    (lora(rank=[2, 4, 2]), r"methods.lora: two of the combinations are the same"),
    (lora(lr=[1e-3, "0.001"]), r"methods.lora: two of the combinations are the same"),
    (lora(lr=[k * 1e-6 for k in range(1, 1100)]), r"1,099 candidates, but a grid has at most 1,000"),
    (lora(**{"lr": [*range(1, 999)], "rank": [*range(1, 999)]}), r"996,004 candidates, but"),
    (lora(rank=[*range(1, 11)]) | {"seeds": [*range(12000)]}, r"120,000 runs, but a grid has at most 100,000"),
    # what stands nowhere
    ({"root": "/nowhere"}, r"root is '/nowhere', but there is no such folder"),
    ({"root": ""}, r"root is '', but string should have at least 1 character"),
    ({"tasks": ["dtd"]}, r"tasks: .*dtd: no such folder"),
    ({"backbone": "peftlab_vit_mino"}, r"backbone: unknown backbone .* did you mean 'peftlab_vit_mini'"),
    ({"backbone": "vit_tiny_patch16_224"}, r"backbone: 'vit_tiny_patch16_224' does not say which weights"),
    ({"backbone": "vit_tiny_patch16_224.imagenet"}, r"backbone: .* does not say which weights"),
    ({"backbone": "nowhere.safetensors"}, r"backbone: nowhere.safetensors: no such weights file"),
    ({"backbone": "resnet18.a1_in1k"}, r"backbone: .*needs a timm VisionTransformer"),
    # what cannot be attached
    (lora(rank=[4, 500]), r"methods.lora: rank is 500, but must lie between 1 and the width"),
    (lora(targets=[["q", "w"]]), r"methods.lora: unknown target 'w'"),
    (lora(targets=[["q", "q"]]), r"methods.lora: targets are \('q', 'q'\); name at least one .* each once"),
    (lora(last_blocks=9), r"methods.lora: last_blocks is 9, but must lie between 1 and the depth, 6"),
    ({"methods": {"adapter": {"bottleneck": 0}}}, r"methods.adapter: bottleneck is 0"),
    ({"methods": {"adapter": {"placement": "pfeifer"}}}, r"methods.adapter: unknown placement 'pfeifer'"),
    ({"methods": {"two_stage": {"channels": 999}}}, r"methods.two_stage: channels is 999"),
    ({"methods": {"gift": {"rank": 16, "heads": 3}}}, r"methods.gift: "),
    ({"methods": {"lora": {"first_lr": 0.1}}}, r"methods.lora: first_lr is 0.1, but lora has no first stage; leave"),
    ({"methods": {"linear": {"first_epochs": [1, 2]}}}, r"methods.linear: first_epochs is 1, but linear has no first"),
    # YAML
    ("tasks: [a", r"cannot be read as YAML: line 1: "),
    ("- a", r"a grid names its tasks and methods"),
    ("", r"a grid names its tasks and methods"),
    ("tasks: [eurosat]", r"a grid names its tasks and methods"),
    (START + "methods: {linear: {}}\nseeds: [0]\nseeds: [1]", r"line 5: the key 'seeds' stands twice"),
    (START + "methods:\n  lora: {rank: 2}\n  ssf: {}\n  lora: {rank: 4}", r"line 6: the key 'lora' stands twice"),
    (START + "methods:\n  lora: {rank: 2, rank: 4}", r"line 4: the key 'rank' stands twice"),
    (START + "methods:\n  1: {method: lora}", r"line 4: the key 1 is not text; put it in quotes"),
    (START + "methods:\n  no: {method: lora}", r"line 4: the key False is not text; put it in quotes"),
    (START + "methods:\n  ? [lora]\n  : {}", r"line 4: the key \['lora'\] is not text"),
    (START + "methods: {lora: &x {rank: 2}, thin: *x}", r"line 3: a grid has no anchors"),
    (START + "methods: {lora: !!python/object/apply:os.getcwd []}", r"line 3: a grid has no .* tags"),
    (START + "methods: {lora: !!int ''}", r"line 3: a grid has no .* tags"),
    (START + "methods:\n  lora:\n    <<: {rank: 2}", r"line 5: a grid has no merges \(<<\); write the keys"),
    (START + "methods: {lora: {rank: 2020-13-45}}", r"cannot be read as YAML: .*month must be in 1..12"),
    (START + "methods: {lora: {rank: 2020-12-24}}", r"methods.lora: rank is datetime.date.*, but should"),
    (START + "methods: {lora: {rank: " + "9" * 5000 + "}}", r"cannot be read as YAML: .*4300 digits"),
    (START + "methods: {lora: {alpha: " + "9" * 4000 + "}}", r"methods.lora: alpha is 9+\.\.\.9+, but "),
    (START + "methods: {lora: {rank: \0}}", r"cannot be read as YAML"),
    (START + "methods: " + "[" * 30_000, r"cannot be read as YAML: .*(nest|recursion)"),
    (START + "methods: {linear: {}}\n---\ntasks: [dtd]", r"cannot be read as YAML: line 4: "),
    ("# " + "long " * 30_000, r"150,002 bytes, but a grid has at most 100,000"),
    (BOMB, r"line 1: a grid has no anchors"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), BAD)
def test_bad_grids_are_refused_in_one_sentence(change, words, grid_file):
    file = grid_file(change) if isinstance(change, str) else grid_file(**change)
    with pytest.raises(PeftlabError, match=words) as refused:
        read_grid(file)
    message = str(refused.value)
    assert message.startswith(f"{file}: ") and "\n" not in message and len(message) < 1200


# What stands instead in the grid -> candidates of its first method: (options of the grid's choosing, recipe).
GOOD = [
    ({"methods": {"linear": None}}, [({}, {})]),
    (lora(rank="8", alpha="0.5"), [({"rank": 8, "alpha": 0.5}, {})]),
    (lora(rank=["4", 8.0]), [({"rank": 4}, {}), ({"rank": 8}, {})]),
    (lora(rank="1e1"), [({"rank": 10}, {})]),
    (lora(alpha=2), [({"alpha": 2.0}, {})]),
    (lora(alpha=[None, "1"]), [({"alpha": None}, {}), ({"alpha": 1.0}, {})]),
    (lora(lr=["1e-3", 5e-3]), [({}, {"lr": 1e-3}), ({}, {"lr": 5e-3})]),
    (lora(lr=[None, 1]), [({}, {"lr": None}), ({}, {"lr": 1.0})]),
    (lora(targets="q"), [({"targets": ("q",)}, {})]),
    (lora(targets=["q", ["q", "v"]]), [({"targets": ("q",)}, {}), ({"targets": ("q", "v")}, {})]),
    (lora(last_blocks="2"), [({"last_blocks": 2}, {})]),
    ({"recipe": {"epochs": "5", "lr": "1e-3"}} | lora(lr="2e-3"), [({}, {"epochs": 5, "lr": 2e-3})]),
    ({"recipe": {"first_lr": 0.1, "epochs": 2}} | lora(), [({}, {"epochs": 2})]),
    ({"recipe": {"cooldown_epochs": "1", "augmentation": "crop"}} | lora(label_smoothing=[0, "0.1"]),
     [({}, {"cooldown_epochs": 1, "augmentation": "crop", "label_smoothing": s}) for s in (0.0, 0.1)]),
    (lora(gradient_checkpointing=True), [({}, {"gradient_checkpointing": True})]),
    ({"methods": {"gist": {"base_method": "lora", "rank": "2", "temperature": "2"}}},
     [({"base_method": "lora", "rank": 2, "temperature": 2.0}, {})]),
    ({"methods": {"gist": {"bottleneck": "4"}}}, [({"base_method": "adaptformer", "bottleneck": 4}, {})]),
    ({"methods": {"gist": {"base_method": ["lora", "ssf"]}}},
     [({"base_method": "lora"}, {}), ({"base_method": "ssf"}, {})]),
    ({"methods": {"two_stage": {"channels": ["8", None]}}}, [({"channels": 8}, {}), ({"channels": None}, {})]),
    ({"methods": {"two_stage": {"first_lr": "2e-2", "first_epochs": "3"}}},
     [({}, {"first_lr": 0.02, "first_epochs": 3})]),
    ({"recipe": {"first_lr": 0.1}, "methods": {"two_stage": {"lr": 1e-3}}}, [({}, {"first_lr": 0.1, "lr": 1e-3})]),
    (START + "methods: {lora: {lr: 1e-3}}\n", [({}, {"lr": 1e-3})]),
    (START + "methods: {\"lora\": {rank: 0x10, lr: 1_0.5}}\n...\n", [({"rank": 16}, {"lr": 10.5})]),
    ("\ufeff" + START + "methods: {lora: {}}", [({}, {})]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "wanted"), GOOD)
def test_odd_but_good_grids_are_understood(change, wanted, grid_file):
    grid = read_grid(grid_file(change) if isinstance(change, str) else grid_file(**change))
    (label,) = grid.methods
    expected = [
        {"method": label, "options": create_method(label, **options).options(), "recipe": recipe}
        for options, recipe in wanted
    ]
    assert grid.candidates() == {label: expected}
    for one, other in zip(
        grid.candidates()[label], expected, strict=True
    ):  # 1, 1.0 and True are equal, but not one run
        assert repr(one) == repr(other)


def test_numbers_outside_methods_may_be_text(grid_file):
    grid = read_grid(grid_file(seeds=["0", "1e1"], img_size="32", train_images="7"))
    assert (grid.seeds, grid.img_size, grid.train_images) == ([0, 10], 32, 7)


def test_files_that_cannot_be_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"tasks: [\xe9]")
    for name, words in {"nowhere": "no such file", "pipe": "no such file", "latin": "UnicodeDecodeError"}.items():
        with pytest.raises(PeftlabError, match=f"{name}.yaml: cannot be read.*{words}"):
            read_grid(tmp_path / f"{name}.yaml")
    with pytest.raises(PeftlabError, match="cannot be read"):
        read_grid(tmp_path)


@pytest.mark.parametrize(("backbone", "side"), [("peftlab_vit_mini", 32), ("peftlab_vit_small", 112)])
def test_every_method_is_attached_without_weights(backbone, side, grid_file, monkeypatch):
    """All of them pass the check on the meta device; no weights are read, no random number is drawn."""
    before, asked = torch.get_rng_state(), []

    def load(name, pretrained, img_size):
        asked.append(pretrained)
        return load_backbone(name, pretrained=pretrained, img_size=img_size)

    monkeypatch.setattr("peftlab.training.attachable.load_backbone", load)
    grid = read_grid(grid_file(methods={name: {} for name in METHODS}, backbone=backbone, img_size=side))
    assert grid_methods(grid) == {name: create_method(name) for name in METHODS}
    assert asked == [False] and torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", ["timm/vit_tiny_patch16_224.augreg_in21k", "vit_tiny_patch16_224.augreg_in21k"])
def test_timm_backbones_are_checked_without_a_download(name, grid_file, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert read_grid(grid_file(backbone=name)).backbone == name
    with pytest.raises(PeftlabError, match="rank is 193, but must lie between 1 and the width, 192"):
        read_grid(grid_file(backbone=name, **lora(rank=193)))


def test_whatever_stops_attach_is_said(grid_file, monkeypatch):
    def attach(*args):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("peftlab.training.attachable.attach", attach)
    with pytest.raises(
        PeftlabError, match=r"methods.linear: Linear\(.*\) cannot be attached: RuntimeError: two lines$"
    ):
        read_grid(grid_file())


def test_grids_made_in_python_are_checked_too(grid_file, tmp_path):
    how = {"tasks": ["eurosat"], "root": str(tmp_path / "root")}
    grid = Grid(methods={"lora": {"rank": 2}}, recipe={"epochs": 1}, **how)
    assert pickle.loads(pickle.dumps(grid)) == grid and grid.candidates()["lora"][0]["recipe"] == {"epochs": 1}
    with pytest.raises(PeftlabError, match="^methods.lora: rank is 500, but must lie"):
        Grid(methods={"lora": {"rank": 500}}, **how)
    with pytest.raises(PeftlabError, match="^methods is missing"):
        Grid(**how)
