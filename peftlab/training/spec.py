"""What a run is: everything that identifies it, and the folder that follows from it."""

import inspect
import json
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ..backbones.identity import describe, mean_and_std
from ..backbones.protocols import Preprocessing, Protocol, Recipe, get_protocol
from ..common.errors import SEEDS, PeftlabError, check_at_least, check_choice
from ..common.paths import runs_folder
from ..methods import Method, attach
from ..methods.core.model import PeftModel
from ..methods.core.own_code import own_code
from ..results.ledger import run_id
from ..tasks.task import Task
from ..tasks.vtab1k import SPLITS, TRAIN_SPLITS
from .precision import arithmetic, pick_device, pick_precision


@dataclass(frozen=True)
class RunSpec:
    """Everything that identifies a run: equal specs are one run, with one folder in the ledger."""

    task: str
    synthetic: bool
    data: str  # fingerprint of the task's lists, images and class names
    method: str
    options: str  # of the method, as JSON
    backbone: str
    weights: str  # fingerprint of the backbone's weights
    probe: str  # of what the backbone computes with them
    img_size: tuple[int, int]  # height, width
    normalisation: str  # mean and standard deviation of the channels, as JSON
    start: str  # digest of head and method before training
    protocol: Protocol  # its recipe holds the learning rate and the precision that are used
    train_split: str
    train_images: int
    seed: int
    device: str  # cpu, cuda or mps
    precision: str
    evaluate_each_epoch: tuple[str, ...] = ()  # splits
    code: str = ""  # digest of the method's, where it is not peftlab's own
    before: "RunSpec | None" = None  # the first stage's, where the method has two

    @property
    def identity(self) -> dict[str, Any]:
        """The spec as the ledger keeps it. The protocol stands by name and hash; its recipe follows in the record."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        plain |= {"protocol": self.protocol.name, "protocol_hash": self.protocol.hash, "peftlab": version("peftlab")}
        plain["before"] = self.before and self.before.name
        height, width = self.img_size
        plain["img_size"] = height if height == width else f"{height}x{width}"
        where_given = {"evaluated_each_epoch": " ".join(plain.pop("evaluate_each_epoch")), "code": plain.pop("code")}
        return plain | {key: value for key, value in where_given.items() if value}

    @property
    def name(self) -> str:
        """That of the run's folder."""
        return run_id(self.identity)

    def folder(self, runs: str | Path | None = None) -> Path:
        """Where the run is kept. runs: the ledger; None: the usual one."""
        return Path(runs or runs_folder()) / self.name


def of_backbone(vit: Any, preprocessing: Preprocessing) -> dict[str, Any]:
    """The fields of a spec that say what a backbone is and how it is fed."""
    known = describe(vit)
    return {
        "backbone": known["name"],
        "weights": known["weights"],
        "probe": known["probe"],
        "img_size": tuple(known["img_size"]),
        "normalisation": json.dumps(mean_and_std(vit, preprocessing.normalisation)),
    }


def make_spec(
    model: PeftModel,
    task: Task,
    *,
    protocol: str | Protocol = "peftlab",
    train_split: str = "train800val200",
    train_images: int | None = None,
    seed: int = 0,
    evaluate_each_epoch: tuple[str, ...] | list[str] = (),
    device: str | torch.device | None = None,
    first_lr: float | None = None,
    first_epochs: int | None = None,
    **recipe: Any,
) -> RunSpec:
    """The spec of training a model on a task.

    recipe: fields of a Recipe (epochs, batch_size, lr, weight_decay, ...) that differ from the protocol's; lr None or
    absent: the protocol's, or else the method's. train_images: only the first so many, for quick lessons; the ledger
    says so. evaluate_each_epoch: splits on which to measure after each epoch, to show what test-set selection does.
    first_lr, first_epochs: learning rate and length of the first stage, where the method has two; by default those
    that the first stage's method has by itself. Raises PeftlabError where the head does not fit the task or the
    backbone's weights the precision, and for splits and values that mean nothing.
    """
    check_choice("training split", train_split, TRAIN_SPLITS)
    task.check_disjoint(train_split)
    for split in evaluate_each_epoch:
        check_choice("split", split, SPLITS)
    SEEDS.check("seed", seed)
    check_at_least("train_images", train_images, 1)
    if model.num_classes != task.num_classes:
        raise PeftlabError(
            f"the head has {model.num_classes} classes, but {task.title} has {task.num_classes}; "
            "attach with num_classes=task.num_classes"
        )
    protocol, device = get_protocol(protocol), pick_device(device)
    settled = settle(protocol, protocol.learning_rate(model.method), device, recipe)
    check_weights(model.backbone, settled.recipe.precision)
    spec = RunSpec(
        task=task.name,
        synthetic=task.synthetic,
        data=task.fingerprint,
        method=model.method.name,
        options=json.dumps(model.method.options()),
        **of_backbone(model.backbone, protocol.preprocessing),
        start=model.digest(),
        protocol=settled,
        train_split=train_split,
        train_images=len(task.labels(train_split)[:train_images]),
        seed=seed,
        device=device.type,
        precision=arithmetic(settled.recipe.precision),
        evaluate_each_epoch=tuple(evaluate_each_epoch),
        code=own_code(model.method),
    )
    first = first_stage(model)
    check_smoothing([model.method] if first is None else [first.method, model.method], settled.recipe)
    if first is None:
        if first_lr is not None or first_epochs is not None:
            raise PeftlabError(
                f"{model.method.name} has one stage; first_lr and first_epochs are for methods with two"
            )
        return spec
    of_first = recipe | {"lr": first_lr} | ({} if first_epochs is None else {"epochs": first_epochs})
    before = replace(
        spec,
        method=first.method.name,
        options=json.dumps(first.method.options()),
        start=first.digest(),
        protocol=settle(protocol, protocol.learning_rate(first.method), device, of_first),
        evaluate_each_epoch=(),
        code=own_code(first.method),
    )
    return replace(spec, before=before)


def settle(protocol: Protocol, lr: float, device: torch.device, recipe: dict[str, Any]) -> Protocol:
    """The protocol with the fields of a recipe, and with what is then used where they leave it open.

    That is this lr, and the precision that suits the device.
    """
    protocol = protocol.with_recipe(**recipe | {"lr": lr if recipe.get("lr") is None else recipe["lr"]})
    return protocol.with_recipe(precision=pick_precision(protocol.recipe.precision, device))


def check_weights(vit: Any, precision: str) -> None:
    """Raise PeftlabError for a backbone whose weights do not go with images in fp32.

    Those in bf16 do in bf16 autocast, which makes both alike.
    """
    fitting = {torch.float32} | ({torch.bfloat16} if precision == "bf16" else set())
    for p in vit.parameters():
        if p.dtype not in fitting:
            raise PeftlabError(
                f"the backbone's weights are {p.dtype}, but training in {precision} needs torch.float32; "
                "convert them with vit.float() before attaching"
            )


def check_smoothing(methods: list[Method], recipe: Recipe) -> None:
    """Raise PeftlabError for a method whose own loss knows no label smoothing, where the recipe has it."""
    for method in methods:
        if recipe.label_smoothing and "label_smoothing" not in inspect.signature(method.loss).parameters:
            raise PeftlabError(
                f"the loss of {method.name} takes no label_smoothing, but the recipe has {recipe.label_smoothing}; "
                "give label_smoothing=0, or give the loss that argument"
            )


def first_stage(model: PeftModel) -> PeftModel | None:
    """The model of the stage before, with the same head at its start; None where the method has one stage."""
    first = model.method.first()
    if first is None:
        return None
    before = attach(model.backbone, first, model.num_classes)
    before.vit.head.load_state_dict(model.vit.head.state_dict())
    return before
