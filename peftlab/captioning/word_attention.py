"""Where the words of a caption look: attention at the solid that a word names, and at the other one as the control."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..tasks.captions import SCENES
from ..tasks.synthetic import grammar
from ..tasks.synthetic.clevr import SIZE, scene
from ..tasks.synthetic.raycast import masks
from ..tasks.synthetic.registry import image_rng
from .captioner import Captioner, Patches


def solid_masks(split: str, rows: Sequence[int]) -> Bool[Tensor, "scenes solids height width"]:
    """Where scenes of a split of 'scenes' show their two solids, in the order of their factors."""
    names = list(SCENES)
    first = sum(SCENES[name] for name in names[: names.index(split)])
    drawn = [scene(image_rng("scenes", first + row), 2) for row in rows]
    return torch.stack([torch.from_numpy(masks(world, camera, SIZE)) for world, camera, _ in drawn])


def object_places(split: str, count: int, grid: int) -> Float[Tensor, "scenes solids cells"]:
    """Share of each solid's visible pixels in each cell of a grid, for the first scenes of a split of 'scenes'."""
    seen = solid_masks(split, range(count)).float()
    cells = seen.unflatten(3, (grid, -1)).unflatten(2, (grid, -1)).sum((3, 5)).flatten(2)
    return cells / cells.sum(-1, keepdim=True)


@torch.inference_mode()
def at_objects(
    model: Captioner,
    patches: Patches,
    scenes: Sequence[Sequence[Mapping[str, Any]]],
    places: Float[Tensor, "scenes solids cells"],
) -> pd.DataFrame:
    """Attention of the words of a solid at its place and at the other solid's -> scene, block, own, other.

    scenes: factors of each; every scene is read with the caption that begins with its first solid. The attention of
    a word's token over the image tokens, summed over heads (Hadji-Kyriacou & Arandjelovic 2023, section 4.5), is
    divided by what attention spread evenly over the image would give; mean over the words of both solids.
    """
    captions = [grammar.captions(objects)[0] for objects in scenes]
    tokens, _ = model.encode(captions)
    encoded = [model.lm.tokenizer.encode(caption) for caption in captions]
    attributes, start = len(grammar.ATTRIBUTES), 1 + model.image_tokens
    rows = []
    for block, weights in enumerate(model.attention(patches, tokens), start=1):
        over_image = weights[:, :, start:, 1:start].sum(1).cpu()
        shares = over_image / over_image.mean(-1, keepdim=True)  # [scenes, words, cells], 1 where spread evenly
        for i, words in enumerate(encoded):
            solids = shares[i, 1 : 1 + attributes], shares[i, len(words) - attributes : len(words)]
            looks = torch.stack([(each @ places[i].T).mean(0) for each in solids])  # [solid named, solid looked at]
            own, other = looks.diag().mean().item(), looks.flip(1).diag().mean().item()
            rows.append({"scene": i, "block": block, "own": own, "other": other})
    return pd.DataFrame(rows)
