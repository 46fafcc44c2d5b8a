"""A block and a channel of the residual stream: its Taylor score, where it is active, what removing it does."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ...backbones.preprocess import input_size, prepare_for
from ...backbones.types import Pixels, ViT
from ...common.errors import PeftlabError
from ...methods.core.importance import places, watched
from ...methods.core.model import PeftModel
from ..style import DIVERGING, bare
from .drawn import SHOWN, Pictured, pictures
from .explorer import Choice, Explorer, Table
from .packing import outline

ON_PAPER = 3  # blocks side by side


def two_stage(model: PeftModel, table: pd.DataFrame, images: Sequence[Pictured]) -> Explorer:
    """Channels of the residual stream after attention, by image, block and channel -> Explorer.

    table: rows of `read_results("channels")` for the task of this model: block, channel, choice, score, rank, and the
    accuracies whole, at_zero, at_mean. Raises PeftlabError where it is not one of this model's shape.
    """
    vit, size = model.vit, input_size(model.vit)
    blocks, D = len(vit.blocks), vit.embed_dim
    counts = table.groupby("block").size()
    if list(counts.index) != [*range(1, blocks + 1)] or counts.nunique() > 1 or table["channel"].max() >= D:
        raise PeftlabError(
            f"a table of {counts.size} blocks does not fit a model of {blocks} blocks and {D} channels; take the rows "
            "of one task, equally many for each block"
        )
    pixels = torch.cat([image.pixels(size) for image in images])
    channels = torch.tensor(table["channel"].to_numpy()).unflatten(0, (blocks, -1))
    stream = activations(vit, pixels)
    picked = torch.stack([stream[:, i][..., chosen].mT for i, chosen in enumerate(channels)], 1)
    maps = picked[..., -vit.patch_embed.num_patches :].unflatten(-1, vit.patch_embed.grid_size)

    def by_channel(column: str) -> np.ndarray:
        return table[column].to_numpy().reshape(channels.shape)

    reasons = np.where(by_channel("choice") == "top", "by its score", "at random, as the control")
    tested, axes = int(table["images"].iloc[0]), ["block", "channel"]
    return Explorer(
        title="Channels of the residual stream",
        choices=[
            Choice("image", [image.name for image in images]),
            Choice("block", range(1, blocks + 1), "slider", first=blocks // 2 + 1),
            Choice("channel", channels.tolist(), by="block"),
        ],
        pictures=pictures(images),
        pictured=["image"],
        maps=maps,
        mapped=["image", *axes],
        unit="activation",
        form="number",
        outlines=[outline(image.mask(SHOWN)[0]) for image in images],
        facts=[
            Table("chosen", axes, reasons, "text"),
            Table("Taylor score", axes, by_channel("score")),
            Table(f"its rank among {D} channels", axes, by_channel("rank")),
            Table(f"accuracy with all, {tested} test images", [], table["whole"].iloc[0], "percent"),
            Table("without this channel, set to 0", axes, by_channel("at_zero"), "percent"),
            Table("set to its mean over images", axes, by_channel("at_mean"), "percent"),
            Table("activation of CLS", ["image", *axes], picked[..., 0]),
        ],
        chart=Table("Accuracy without this channel, set to 0", axes, by_channel("at_zero"), "percent"),
        strip=_strip(maps, channels, by_channel("at_zero"), pixels),
    )


@torch.no_grad()
def activations(vit: ViT, pixels: Pixels) -> Float[Tensor, "batch blocks tokens width"]:
    """The residual stream after the attention of each block, where channels are scored and removed."""
    where = places(vit)
    with watched(where) as seen:
        vit.forward_features(prepare_for(vit, pixels))
    return torch.stack([seen[place.module].detach().cpu() for place in where], 1)


def _strip(
    maps: Float[Tensor, "batch blocks channels rows columns"],
    channels: Tensor,
    accuracy: Float[np.ndarray, "blocks channels"],
    pixels: Pixels,
) -> Figure:
    """The channel with the highest score in some blocks, on two images, for paper."""
    shown = np.unique(np.linspace(1, maps.shape[1], ON_PAPER).round().astype(int)).tolist()
    figure, axes = plt.subplots(2, len(shown), figsize=(6.4, 5), layout="constrained")
    extent = (0, pixels.shape[2], pixels.shape[1], 0)
    for row, image, image_maps in zip(axes, pixels.float().mean(-1), maps, strict=False):
        for ax, block in zip(row, shown, strict=True):
            map_ = image_maps[block - 1, 0].numpy()
            top = abs(map_).max()
            title = f"block {block}, channel {channels[block - 1, 0]}\nat 0: {accuracy[block - 1, 0]:.0%} right"
            bare(ax, title).imshow(image.numpy(), cmap="gray")
            ax.imshow(map_, cmap=DIVERGING, vmin=-top, vmax=top, alpha=0.6, extent=extent)
    return figure
