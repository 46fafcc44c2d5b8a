"""Trained runs that come with the workbook, so that a picture need not wait for a training."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ..backbones.load import load_backbone
from ..common.errors import check_choice
from ..common.paths import REPOSITORY
from ..methods import load_adapter
from ..methods.core.model import PeftModel
from ..results.ledger import read_curves, read_record

FOLDER = REPOSITORY / "data" / "adapters"


class TrainedRun(NamedTuple):
    """A trained model with its record (a row of the ledger) and its curves (a row an epoch).

    The model is None where curves alone ship: full fine-tuning would be 84 MB.
    """

    model: PeftModel | None
    record: dict[str, Any]
    curves: pd.DataFrame


def trained_runs() -> list[str]:
    """The names that `load_run` knows, as "<task>-<method>".

    >>> "oxford_iiit_pet-gist_lora" in trained_runs()
    True
    """
    return sorted(file.parent.name for file in FOLDER.glob("*/run.json"))


def load_run(name: str, img_size: int | None = None) -> TrainedRun:
    """A run of data/adapters on its backbone, as it was trained at strength; its card is README.md in its folder.

    img_size: side in pixels, a multiple of 14; None: that of the training, 112. A larger one gives finer maps.
    Adapters are kept in fp16. Raises PeftlabError for a name that is not there.

    >>> run = load_run("oxford_iiit_pet-norm")
    >>> run.model.method.name, run.model.num_classes, len(run.curves), run.record["seed"]
    ('norm', 37, 10, 0)
    """
    check_choice("trained run", name, trained_runs())
    folder: Path = FOLDER / name
    record = read_record(folder) or {}
    backbone = load_backbone(record["backbone"], img_size=img_size or record["img_size"])
    with warnings.catch_warnings():  # another size is what was asked for
        warnings.filterwarnings("ignore", message=".* trained at ")
        model = load_adapter(backbone, folder) if (folder / "adapter.safetensors").is_file() else None
    return TrainedRun(model, record, read_curves(folder))
