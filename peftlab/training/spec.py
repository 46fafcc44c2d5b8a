"""What a run is: everything that identifies it, and the folder that follows from it."""

import json
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..backbones.load import fingerprint
from ..backbones.protocols import Protocol, get_protocol
from ..common.errors import PeftlabError, check_at_least, check_choice
from ..common.paths import runs_folder
from ..methods.core.model import PeftModel
from ..results.ledger import run_id
from ..tasks.task import Task
from ..tasks.vtab1k import TRAIN_SPLITS


@dataclass(frozen=True)
class RunSpec:
    """Everything that identifies a run: equal specs are one run, with one folder in the ledger."""

    task: str
    synthetic: bool
    data: str  # fingerprint of the task's lists
    method: str
    options: str  # of the method, as JSON
    backbone: str
    weights: str  # fingerprint of the backbone's weights
    protocol: Protocol  # its recipe holds the learning rate that is used
    train_split: str
    train_images: int
    seed: int
    evaluate_each_epoch: tuple[str, ...] = ()  # splits

    @property
    def identity(self) -> dict[str, Any]:
        """The spec as the ledger keeps it. The protocol stands by name and hash; its recipe follows in the record."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        plain |= {"protocol": self.protocol.name, "protocol_hash": self.protocol.hash, "peftlab": version("peftlab")}
        splits = plain.pop("evaluate_each_epoch")
        return plain | ({"evaluated_each_epoch": " ".join(splits)} if splits else {})

    def folder(self, runs: str | Path | None = None) -> Path:
        """Where the run is kept, made if need be. runs: the ledger; None: the usual one."""
        folder = Path(runs or runs_folder()) / run_id(self.identity)
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def make_spec(
    model: PeftModel,
    task: Task,
    *,
    protocol: str | Protocol = "peftlab",
    train_split: str = "train800val200",
    train_images: int | None = None,
    seed: int = 0,
    evaluate_each_epoch: tuple[str, ...] | list[str] = (),
    **recipe: Any,
) -> RunSpec:
    """The spec of training a model on a task.

    recipe: fields of a Recipe (epochs, batch_size, lr, weight_decay, ...) that differ from the protocol's; lr None or
    absent: the protocol's, or else the method's. train_images: only the first so many, for quick lessons; the ledger
    says so. evaluate_each_epoch: splits on which to measure after each epoch, to show what test-set selection does.
    Raises PeftlabError where the head does not fit the task, and for splits and values that mean nothing.
    """
    check_choice("training split", train_split, TRAIN_SPLITS)
    check_at_least("seed", seed, 0)
    check_at_least("train_images", train_images, 1)
    if model.num_classes != task.num_classes:
        raise PeftlabError(
            f"the head has {model.num_classes} classes, but {task.title} has {task.num_classes}; "
            "attach with num_classes=task.num_classes"
        )
    protocol = get_protocol(protocol)
    lr = recipe.pop("lr", None)
    lr = protocol.learning_rate(model.method) if lr is None else lr
    return RunSpec(
        task=task.name,
        synthetic=task.synthetic,
        data=task.fingerprint,
        method=model.method.name,
        options=json.dumps(model.method.options()),
        backbone=model.backbone.peftlab_name,
        weights=fingerprint(model.backbone),
        protocol=protocol.with_recipe(lr=lr, **recipe),
        train_split=train_split,
        train_images=len(task.labels(train_split)[:train_images]),
        seed=seed,
        evaluate_each_epoch=tuple(evaluate_each_epoch),
    )
