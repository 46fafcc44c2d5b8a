"""A trained model with its record in the ledger."""

from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ..common.errors import PeftlabError
from ..results.ledger import read_curves, read_record, write_curves, write_record
from .evaluate import evaluate
from .spec import RunSpec


class Run:
    """A model in training or trained, with its record: metrics, curves, evaluate(split).

    before: the run of its first stage, where the method has two.
    """

    headline = "accuracy"  # what `evaluate` returns of all that `measure` gives

    def __init__(
        self, folder: Path, model: Any, task: Any, spec: RunSpec, device: torch.device, before: "Run | None" = None
    ) -> None:
        self.folder, self.model, self.task, self.spec, self.device = folder, model, task, spec, device
        self.before = before

    @property
    def record(self) -> dict[str, Any]:
        """The content of run.json: one row of the ledger; empty before the run is finished."""
        return read_record(self.folder) or {}

    @property
    def finished(self) -> bool:
        return "finished" in self.record

    @property
    def metrics(self) -> dict[str, float]:
        """What was measured so far."""
        return {k: v for k, v in self.record.items() if k.endswith((f"_{self.headline}", "_accuracy", "_loss"))}

    @property
    def curves(self) -> pd.DataFrame:
        """One row an epoch: training loss with the method's terms, accuracy, learning rate at its end, seconds."""
        return read_curves(self.folder)

    def evaluate(self, split: str) -> float:
        """The headline, top-1 accuracy, on a split, recorded in the ledger.

        The test split is opened once: asked again, the recorded value is returned. Raises PeftlabError when asked to
        validate on images that the run was trained on.
        """
        record = self.record
        if split == "test" and record.get(f"test_{self.headline}") is not None:
            return record[f"test_{self.headline}"]
        if split == "val200" and record["train_split"] == "train800val200":
            raise PeftlabError("val200 was trained on in this run; select on a run with train_split='train800'")
        if split == "test" and "test_opened" not in record:
            # Written before the first look: a crash in between still shows that the split was opened, and when.
            now = datetime.now(UTC).isoformat(timespec="seconds")
            record |= {"test_opened": now, f"test_{self.headline}": None}
            write_record(self.folder, record)
        result = self.measure(split)
        short = {"val200": "val", "test": "test"}.get(split, split)
        record |= {f"{short}_{key}": value for key, value in result.items()}
        write_record(self.folder, record)
        return result[self.headline]

    def measure(self, split: str) -> dict[str, Any]:
        """What is recorded of a split."""
        return evaluate(self.model, self.task, split, self.spec.protocol, self.device)

    def finish(self, curves: list[dict[str, float]], **facts: Any) -> None:
        """Write curves.csv and run.json: spec, recipe and further facts; what resuming needed goes."""
        write_curves(self.folder, curves)
        measured = {
            "train_loss": curves[-1]["loss"],
            "seconds": round(sum(row["seconds"] for row in curves), 2),
            "device": torch.cuda.get_device_name() if self.device.type == "cuda" else self.device.type,
            "torch": torch.__version__,
            "timm": version("timm"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_record(self.folder, self.spec.identity | facts | asdict(self.spec.protocol.recipe) | measured)
        (self.folder / "state.safetensors").unlink(missing_ok=True)
