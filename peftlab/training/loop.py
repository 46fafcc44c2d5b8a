"""The training loop, as bare as it can be, with its learning rate and parameter groups."""

import math
import time
from collections import Counter

import numpy as np
import torch
from timm.layers import DropPath

from ..common.progress import progress
from .precision import autocast
from .state import load_state, save_state


def learning_rate(step, total, warmup, peak, floor):
    """Linear warm-up to `peak`, then cosine to `floor`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def set_drop_path(vit, rate):
    """Stochastic depth, growing linearly from 0 at the first block to `rate` at the last."""
    for i, block in enumerate(vit.blocks):
        here = rate * i / max(1, len(vit.blocks) - 1)
        block.drop_path1, block.drop_path2 = (DropPath(here) if here else torch.nn.Identity() for _ in range(2))


def parameter_groups(model, weight_decay):
    """Weight decay on matrices only; biases, norms and other vectors are left alone."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def train(model, step, n, recipe, seed, folder, device, label, look=dict):
    """The loop. step(row numbers) -> {"loss": scalar, further means for the curves}. Returns one dict an epoch.

    look() -> {name: number}: further entries of the curves, asked for after each epoch.

    The folder keeps the last complete epoch, and the same call goes on from there.
    """
    optimizer = torch.optim.AdamW(parameter_groups(model, recipe.weight_decay), lr=recipe.lr)
    state, curves = folder / "state.safetensors", []
    if state.is_file():
        curves = load_state(state, model, optimizer)["curves"]
    per_epoch = math.ceil(n / recipe.batch_size)
    total, warmup = recipe.epochs * per_epoch, recipe.warmup_epochs * per_epoch
    epochs = range(len(curves), recipe.epochs)
    bar = progress(epochs, desc=label, unit="epoch", initial=len(curves), total=recipe.epochs)
    for epoch in bar:
        # Everything random in an epoch follows from (seed, epoch), so that a resumed run equals an unbroken one.
        torch.manual_seed(int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0]))
        order = torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(n))
        model.train()
        began, sums = time.perf_counter(), Counter()
        for i, rows in enumerate(order.split(recipe.batch_size)):
            rate = learning_rate(epoch * per_epoch + i, total, warmup, recipe.lr, min(recipe.min_lr, recipe.lr))
            for group in optimizer.param_groups:
                group["lr"] = rate
            with autocast(device):
                terms = step(rows)
            loss = terms["loss"]
            if not torch.isfinite(loss):
                raise FloatingPointError(
                    f"{label}: the loss became {loss.item()} in epoch {epoch + 1}, step {i + 1}, at learning rate "
                    f"{rate:.2g}. Lower lr (now {recipe.lr:g}) or check the images; nothing of this epoch was kept"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            sums.update({name: term.item() * len(rows) for name, term in terms.items()})
        row = {"epoch": epoch + 1} | {name: value / n for name, value in sums.items()} | {"lr": rate}
        row["seconds"] = time.perf_counter() - began
        curves.append(row | look())
        save_state(state, model, optimizer, {"curves": curves})
        shown = {name: f"{row[name]:.3f}" for name in ("loss", "accuracy") if name in row}
        bar.set_postfix(shown, refresh=False)
    return curves
