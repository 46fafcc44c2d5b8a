"""The channels that the two-stage paradigm chooses: where in an image they matter, and how choices agree."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64
from torch import Tensor

from ..backbones.preprocess import prepare_for
from ..backbones.types import Labels, Pixels, ViT
from ..methods.core.importance import activations_and_gradients, places


def spatial_importance(vit: ViT, pixels: Pixels, labels: Labels) -> list[Float[Tensor, "batch rows columns"]]:
    """Where in the images the loss depends on each block: |h g| summed over the channels of each patch.

    h is the residual stream after attention, g the gradient of the loss with respect to it. vit: with its head.
    """
    x = prepare_for(vit, pixels)
    pairs = activations_and_gradients(vit.eval(), places(vit), x, labels.to(x.device))
    patches, grid = vit.patch_embed.num_patches, vit.patch_embed.grid_size
    return [(h * g).abs().sum(-1)[:, -patches:].unflatten(1, grid) for h, g in pairs]


def jaccard(chosen: Mapping[str, Sequence[int] | Int64[Tensor, " _"]]) -> pd.DataFrame:
    """Overlap |A and B| / |A or B| of every two index sets; labels in rows and columns.

    >>> jaccard({"a": [0, 1, 2], "b": [2, 3]}).loc["a", "b"].item()
    0.25
    """
    sets = {label: set(np.asarray(indices).tolist()) for label, indices in chosen.items()}
    table = [[len(a & b) / max(len(a | b), 1) for b in sets.values()] for a in sets.values()]
    return pd.DataFrame(table, index=list(sets), columns=list(sets))
