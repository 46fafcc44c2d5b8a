"""fit: train a captioner and keep a record of it; the loop is the one of classification."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.identity import digest, fingerprint, in_double
from ..backbones.protocols import Protocol, Recipe
from ..backbones.types import ViT
from ..common.errors import SEEDS, PeftlabError, check_at_least
from ..common.tensors import read_tensors, write_tensors
from ..methods.core.load import load_tensors
from ..tasks.captions import CaptionTask
from ..training.loop import train
from ..training.precision import arithmetic, pick_device
from ..training.run import Run, last_spec
from ..training.spec import RunSpec, of_backbone, settle
from .captioner import IGNORED, Captioner
from .interface import CausalLM
from .load import SCENES_CAPTIONER
from .metrics import evaluate

# Ours. The paper: Adam, constant 1e-4, batches of 96, 8 epochs on COCO, and augmented images.
PROTOCOL = Protocol(
    "captions", "ours: short", recipe=Recipe(epochs=8, batch_size=32, weight_decay=0.0, warmup_epochs=0.25)
)
# The better of two or three each on the validation split of synthetic scenes, seed 0. Larger models want smaller ones.
LEARNING_RATES = {"connector": 2e-2, "lora": 5e-3, "bitfit": 2e-2, "ia3": 2e-2, "full": 1e-3}

NOT_TAKEN = ("drop_path", "augmentation", "gradient_checkpointing")  # of a recipe


@dataclass(frozen=True, kw_only=True)
class CaptionSpec(RunSpec):
    """A RunSpec with the language model that is adapted."""

    language_model: str
    language_weights: str  # fingerprint
    language_probe: str  # of what it computes with them


class CaptionRun(Run):
    """A captioner in training or trained, with its record; evaluate(split) gives and records the perplexity."""

    headline = "perplexity"

    def measure(self, split: str) -> dict[str, Any]:
        return evaluate(self.trained_model(), self.task, split, precision=self.spec.protocol.recipe.precision)

    def trained_model(self) -> Captioner:
        """The captioner as this run left it."""
        if own_digest(self.model) == self.record["adapter"]:
            return self.model
        model = copy.deepcopy(self.model)
        load(model, self.folder)
        return model


def make_spec(
    model: Captioner,
    task: CaptionTask,
    *,
    train_images: int | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    **recipe: Any,
) -> CaptionSpec:
    """The spec of training a captioner. recipe: epochs, batch_size, lr, ...; lr None: the one of LEARNING_RATES."""
    SEEDS.check("seed", seed)
    check_at_least("train_images", train_images, 1)
    (vit, lm), device = model.frozen, pick_device(device)
    lr = LEARNING_RATES[model.options.get("kind", model.method)]
    protocol = settle(PROTOCOL, lr, device, recipe)
    for name in NOT_TAKEN:
        if getattr(protocol.recipe, name) != getattr(PROTOCOL.recipe, name):
            raise PeftlabError(
                f"{name} is {getattr(protocol.recipe, name)!r}, but images of captions are encoded once, by a frozen "
                "ViT, and a captioner is trained without it; leave it out"
            )
    return CaptionSpec(
        task=task.name,
        synthetic=task.synthetic,
        data=task.fingerprint,
        method=model.method,
        options=json.dumps(model.options | {"grid": model.grid, "standardise": model.standardise}),
        **of_backbone(vit, PROTOCOL.preprocessing),
        start=own_digest(model),
        language_model=lm.peftlab_name,
        language_weights=fingerprint(lm),
        language_probe=language_probe(lm),
        protocol=protocol,
        train_split="train",
        train_images=len(task.captions("train")[:train_images]),
        seed=seed,
        device=device.type,
        precision=arithmetic(protocol.recipe.precision),
    )


@torch.no_grad()
def language_probe(lm: CausalLM) -> str:
    """12 hex digits over what a language model makes of fixed embeddings, as `probe` does of a ViT."""
    numbers = torch.Generator().manual_seed(0)
    x = torch.randn(1, 4, lm.embedding_width, generator=numbers, dtype=torch.float64)
    with torch.autocast("cpu", enabled=False):
        logits, _ = in_double(lm)(x)
    return digest({}, [f"{value:.5f}" for value in logits[0, -1, :32].tolist()])


def fit(
    model: Captioner,
    task: CaptionTask,
    *,
    runs: str | Path | None = None,
    device: str | torch.device | None = None,
    reuse: bool = True,
    **settings: Any,
) -> CaptionRun:
    """Train a Captioner on a CaptionTask -> CaptionRun.

    settings: epochs, batch_size, lr, train_images (only the first so many), seed; see `make_spec`. In every epoch each
    image is shown once, with one of its captions drawn at random. The images' tokens are computed once. Resuming,
    reuse and the ledger are those of `peftlab.fit`. Raises PeftlabError for captions that do not fit the model,
    FloatingPointError when the loss is no longer a number.
    """
    device = pick_device(device)
    spec = make_spec(model, task, device=device, **settings)
    spec = last_spec(model, spec, runs) if reuse else spec
    run = CaptionRun(spec.folder(runs), model.to(device), task, spec, device)
    untouched = {name: t.detach().clone() for name, t in own_tensors(model).items()}
    with run.writing():
        try:
            if reuse and run.finished:
                load(model, run.folder)
                run.end_state()
            else:
                train_captioner(run)
        except BaseException:
            load_tensors(own_tensors(model), untouched, run.folder)  # so that the same call goes on
            raise
        finally:
            model.eval()  # without dropout, however it ended
        model.trained_by = spec, own_digest(model)
    return run


def train_captioner(run: CaptionRun) -> None:
    """Train the captioner of a run, save it and write its record."""
    model, task, spec, device = run.model, run.task, run.spec, run.device
    tokens, labels, first = _encoded(model, task.captions("train")[: spec.train_images])
    patches = model.encode_images(task, "train", spec.train_images, spec.protocol.recipe.precision)
    if model.standardise:
        model.connector[0].estimate(patches.to(device))

    def step(rows: Tensor, epoch: int) -> dict[str, Tensor]:
        count = first[rows + 1] - first[rows]
        chosen = first[rows] + (torch.rand(len(rows)) * count).long()
        longest = int((labels[chosen] != IGNORED).sum(1).max())  # padding costs time and changes nothing
        logits = model(patches[rows], tokens[chosen, :longest])
        wanted = labels[chosen, :longest].flatten()
        smoothing = spec.protocol.recipe.label_smoothing
        logits = logits.float().flatten(0, 1)
        return {"loss": F.cross_entropy(logits, wanted, ignore_index=IGNORED, label_smoothing=smoothing)}

    curves = train(model, step, spec, run.folder, device, f"{model.title} on {task.title}")
    save(model, run.folder)
    counts = {"parameters": model.method_parameters, "connector_parameters": model.connector_parameters}
    run.finish(curves, adapter=own_digest(model), **counts)


def _encoded(model: Captioner, captions: list[list[str]]) -> tuple[Tensor, Tensor, Tensor]:
    """All captions in one table, and where those of each image begin [n + 1]."""
    tokens, labels = model.encode([caption for each in captions for caption in each])
    return tokens, labels, torch.tensor([0, *(len(each) for each in captions)]).cumsum(0)


def own_tensors(model: Captioner) -> dict[str, Tensor]:
    """What belongs to a captioner beside the frozen models: trained parameters and the connector's statistics."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad} | {
        f"connector.0.{name}": t for name, t in model.connector[0].named_buffers()
    }


def own_digest(model: Captioner) -> str:
    """12 hex digits over `own_tensors`."""
    return digest(own_tensors(model))


def save(model: Captioner, folder: str | Path) -> None:
    """Write captioner.safetensors; the frozen models' weights are never stored."""
    write_tensors(Path(folder) / "captioner.safetensors", own_tensors(model))


def load(model: Captioner, folder: str | Path) -> None:
    """Read what `save` wrote into a Captioner made alike. Raises PeftlabError unless names and shapes agree."""
    file = Path(folder) / "captioner.safetensors"
    load_tensors(own_tensors(model), read_tensors(file)[0], file)


def load_scenes_captioner(vit: ViT, lm: CausalLM) -> Captioner:
    """The captioner of synthetic scenes that comes with peftlab (`tools/train_captioner.py`), on the embedded models.

    Raises PeftlabError for other ones: its adapters fit no others.
    """
    if (vit.peftlab_name, lm.peftlab_name) != ("peftlab_vit_mini", "peftlab_lm_tiny"):
        raise PeftlabError(
            f"the captioner of scenes is for the embedded models, not {vit.peftlab_name}, {lm.peftlab_name}"
        )
    model = Captioner(vit, lm, "context_peft", grid=4, standardise=True)
    load(model, SCENES_CAPTIONER)
    return model
