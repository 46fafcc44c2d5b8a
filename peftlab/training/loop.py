"""The training loop, as bare as it can be, with its learning rate and parameter groups."""

import math
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from timm.layers import DropPath
from torch import Tensor, nn

from ..backbones.types import ViT
from ..common.progress import progress
from .precision import computing
from .spec import RunSpec
from .state import load_state, save_state


def train(
    model: Any,
    step: Callable[[Int64[Tensor, " rows"], int], dict[str, Tensor]],
    spec: RunSpec,
    folder: Path,
    device: torch.device,
    title: str,
    after_epoch: Callable[[], dict[str, float]] = dict,
) -> list[dict[str, float]]:
    """Train what is trainable in a model -> curves, one dict an epoch.

    step: row numbers of a batch, epoch from 0 -> {"loss": scalar, further means for the curves}. title: of the bar and
    in messages.
    after_epoch: further entries of the curves. The folder keeps the last complete epoch, and the same call goes on
    from there. Raises FloatingPointError when the loss or a weight is no longer a number.
    """
    recipe, n = spec.protocol.recipe, spec.train_images
    optimizer = torch.optim.AdamW(parameter_groups(model, recipe.weight_decay))
    state = folder / "state.safetensors"
    curves = load_state(state, model, optimizer)["curves"] if state.is_file() else []
    per_epoch = math.ceil(n / recipe.batch_size)
    epochs = range(len(curves), recipe.total_epochs)
    bar = progress(epochs, desc=title, unit="epoch", initial=len(curves), total=recipe.total_epochs)
    for epoch in bar:
        model.train()
        began, sums = time.perf_counter(), Counter[str]()
        for i, rows in enumerate(shuffled(n, spec.seed, epoch).split(recipe.batch_size)):
            rate = learning_rate(epoch * per_epoch + i, per_epoch, recipe)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with computing(model, device, recipe.precision):
                terms = step(rows, epoch)
            require_finite(terms["loss"], f"{title}, epoch {epoch + 1}, step {i + 1}", rate)
            optimizer.zero_grad(set_to_none=True)
            terms["loss"].backward()
            optimizer.step()
            sums.update({name: term.item() * len(rows) for name, term in terms.items()})
        require_finite_weights(model, f"{title}, epoch {epoch + 1}", rate)
        row = {"epoch": epoch + 1} | {name: value / n for name, value in sums.items()} | {"lr": rate}
        curves.append(row | {"seconds": time.perf_counter() - began} | after_epoch())
        save_state(state, model, optimizer, {"curves": curves})
        bar.set_postfix({k: f"{row[k]:.3f}" for k in ("loss", "accuracy") if k in row}, refresh=False)
    return curves


def shuffled(n: int, seed: int, epoch: int) -> Int64[Tensor, " n"]:
    """The order of an epoch; all that is random in it follows from (seed, epoch), also after an interruption.

    >>> shuffled(5, seed=0, epoch=0).tolist()
    [2, 4, 3, 0, 1]
    """
    torch.manual_seed(int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0]))
    return torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(n))


def learning_rate(step: int, per_epoch: int, recipe: Any) -> float:
    """Linear warm-up to the recipe's lr, cosine to its min_lr, and there it stays. per_epoch: steps of an epoch.

    >>> from peftlab.backbones.protocols import Recipe
    >>> recipe = Recipe(epochs=4, lr=0.1, warmup_epochs=1, min_lr=0.0)
    >>> [round(learning_rate(step, 2, recipe), 3) for step in range(8)]
    [0.05, 0.1, 0.1, 0.093, 0.075, 0.05, 0.025, 0.007]
    """
    total, warmup = recipe.epochs * per_epoch, recipe.warmup_epochs * per_epoch
    if step < warmup:
        return recipe.lr * min(step + 1, warmup) / warmup  # which may end within a step
    floor = min(recipe.min_lr, recipe.lr)
    if step >= total:
        return floor
    return floor + (recipe.lr - floor) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def require_finite(loss: Tensor, where: str, rate: float) -> None:
    """Raise FloatingPointError unless the loss is a number."""
    if not torch.isfinite(loss):
        raise FloatingPointError(
            f"{where}: the loss became {loss.item()} at learning rate {rate:.2g}. Lower lr or check the images; "
            "nothing of this epoch was kept"
        )


def require_finite_weights(model: nn.Module, where: str, rate: float) -> None:
    """Raise FloatingPointError unless all that is trained is a number; the last loss comes before the last step."""
    for name, p in model.named_parameters():
        if p.requires_grad and not torch.isfinite(p).all():
            raise FloatingPointError(
                f"{where}: {name} holds NaN or infinity at learning rate {rate:.2g}. Lower lr; nothing of this epoch "
                "was kept"
            )


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on matrices only; biases, norms and other vectors are left alone."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def set_drop_path(vit: ViT, rate: float) -> None:
    """Stochastic depth, growing linearly from 0 at the first block to `rate` at the last."""
    for i, block in enumerate(vit.blocks):
        here = rate * i / max(1, len(vit.blocks) - 1)
        block.drop_path1, block.drop_path2 = (DropPath(here) if here else nn.Identity() for _ in range(2))
