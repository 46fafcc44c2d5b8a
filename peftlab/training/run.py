"""A trained model with its record in the ledger."""

import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import torch
from filelock import FileLock, Timeout

from ..backbones.identity import fingerprint
from ..common.errors import PeftlabError
from ..common.files import sweep_parts
from ..methods import load_adapter
from ..results.ledger import read_curves, read_record, write_curves, write_record
from ..results.predictions import write_predictions
from .evaluate import measures, predict
from .spec import RunSpec

Spec = TypeVar("Spec", bound=RunSpec)
PATIENCE = 2  # seconds to wait for another process before saying so


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


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

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Within, no other process writes into the run's folder; one that does so now is waited for."""
        file = self.folder.with_name(f"{self.folder.name}.lock")
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file)
        try:
            lock.acquire(timeout=PATIENCE)
        except Timeout:
            print(f"{self.folder.name}: another process works on this run; waiting for it", file=sys.stderr)
            lock.acquire()
        try:
            self.folder.mkdir(exist_ok=True)
            sweep_parts(self.folder, alone=True)
            yield
        finally:
            with suppress(OSError):
                self.folder.rmdir()  # where nothing was written
            # While it is held; who waits for it sees that it is gone and makes another. FileLock looks since 3.21, the
            # oldest that is allowed: before, one writer could hold the removed file and the next one a new file.
            file.unlink(missing_ok=True)
            lock.release()

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

        The test split is opened once for each training: asked again, the recorded value is returned; `test_opened`
        has the date of every opening. What is measured is the model as this run left it, whatever it has become since.
        Raises PeftlabError when asked to validate on images that the run was trained on.
        """
        if split == "val200" and self.spec.train_split == "train800val200":
            raise PeftlabError("val200 was trained on in this run; select on a run with train_split='train800'")
        short, headline = {"val200": "val"}.get(split, split), f"test_{self.headline}"
        with self.writing():
            record = self.record
            if split == "test" and record.get(headline) is not None:
                return record[headline]
            if split == "test" and headline not in record:
                # Written before the first look: a crash in between still shows that the split was opened, and when.
                openings = [record["test_opened"]] if record.get("test_opened") else []
                record |= {"test_opened": " ".join([*openings, _now()]), headline: None}
                write_record(self.folder, record)
            result = self.measure(split)
            write_record(self.folder, record | {f"{short}_{key}": value for key, value in result.items()})
        return result[self.headline]

    def measure(self, split: str) -> dict[str, Any]:
        """What is recorded of a split; the prediction for each of its images is kept beside the record."""
        logits = predict(self.trained_model().vit, self.task, split, self.spec.protocol, self.device)
        labels = torch.from_numpy(self.task.labels(split))
        write_predictions(self.folder, split, logits.argmax(1), labels)
        return measures(logits, labels)

    def trained_model(self) -> Any:
        """The model as this run left it. Raises PeftlabError where the backbone's weights were changed since."""
        if fingerprint(self.model.backbone) != self.spec.weights:
            raise PeftlabError(f"{self.folder}: the backbone was changed since this training; load it again")
        if self.model.digest() == self.record["adapter"]:
            return self.model
        return load_adapter(self.model.backbone, self.folder)

    def finish(self, curves: list[dict[str, float]], **facts: Any) -> None:
        """Write curves.csv and run.json: spec, recipe and further facts; what resuming needed goes.

        Seconds are those of both stages, where there are two. Of a run that is trained again the openings of the test
        split stay on record.
        """
        earlier = {key: value for key, value in self.record.items() if key == "test_opened"}
        seconds = sum(row["seconds"] for row in curves) + (self.before.record["seconds"] if self.before else 0)
        write_curves(self.folder, curves)
        measured = {
            "train_loss": curves[-1]["loss"],
            "seconds": round(seconds, 2),
            "processor": torch.cuda.get_device_name() if self.device.type == "cuda" else platform.machine(),
            "torch": torch.__version__,
            "timm": version("timm"),
            "finished": _now(),
        }
        recipe = self.spec.protocol.recipe
        how = recipe.content | {"precision": self.spec.precision}
        if recipe.gradient_checkpointing:  # which seconds depend on
            how["gradient_checkpointing"] = True
        write_record(self.folder, self.spec.identity | facts | how | measured | earlier)
        self.end_state()

    def end_state(self) -> None:
        """Remove what resuming needed; a kill may have come between the record and this."""
        (self.folder / "state.safetensors").unlink(missing_ok=True)


def is_finished(spec: RunSpec, runs: str | Path | None) -> bool:
    """Whether the ledger has this run."""
    return "finished" in (read_record(spec.folder(runs)) or {})


def last_spec(model: Any, spec: Spec, runs: str | Path | None) -> Spec:
    """The spec of the model's last training, where this one asks for the same and the model was left alone since.

    Otherwise, and where the ledger lacks that run, `spec`.
    """
    last, digest = model.trained_by or (None, "")
    if last is None or digest != spec.start or not is_finished(last, runs):
        return spec
    return last if _as_begun(spec, last) == last else spec


def _as_begun(spec: Spec, last: RunSpec) -> Spec:
    """A spec with what training changes, start and options, as the last one has it, in the first stage as well."""
    before = _as_begun(spec.before, last.before) if spec.before and last.before else spec.before
    return replace(spec, start=last.start, options=last.options, before=before)
