"""The CLS and the gist token of a model tuned with GIST: how they agree, and how they listen to each other.

>>> from peftlab.backbones.load import load_backbone
>>> from peftlab.methods import attach
>>> model = attach(load_backbone(), "gist", num_classes=2)
>>> cls, gist = token_pair(model, torch.zeros(4, 64, 64, 3, dtype=torch.uint8))
>>> cls.shape, gist.shape  # 6 blocks, 4 images, width 192
(torch.Size([6, 4, 192]), torch.Size([6, 4, 192]))
"""

import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..backbones.preprocess import prepare_for
from ..backbones.stages import outputs
from ..backbones.types import Pixels, ViT
from ..common.errors import PeftlabError
from ..methods.core.model import PeftModel
from .attention import all_attention_maps, prefix_index


def check_cls(vit: ViT) -> None:
    """Raise PeftlabError without a CLS token: the gist is the first token then, and would be held against itself."""
    if not vit.has_class_token:
        raise PeftlabError(
            "this backbone has no CLS token, with which the gist could be compared; in GIST its pooled tokens stand in"
        )


@torch.inference_mode()
def token_pair(
    model: PeftModel, pixels: Pixels
) -> tuple[Float[Tensor, "blocks batch channels"], Float[Tensor, "blocks batch channels"]]:
    """CLS and gist after every block, without the final norm. Raises PeftlabError without one of them."""
    vit = model.vit
    check_cls(vit)
    seen = outputs(vit, vit.blocks, prepare_for(vit, pixels))
    position = prefix_index(vit, "gist", seen[0].shape[1])
    return torch.stack([x[:, 0] for x in seen]).cpu(), torch.stack([x[:, position] for x in seen]).cpu()


def token_cosine(model: PeftModel, pixels: Pixels) -> pd.DataFrame:
    """Cosine of the CLS and the gist token after each block: its mean over images, and their standard deviation."""
    cosine = F.cosine_similarity(*token_pair(model, pixels), dim=-1)
    return pd.DataFrame({"cosine": cosine.mean(1), "std": cosine.std(1)}, index=range(1, len(cosine) + 1))


def token_exchange(model: PeftModel, pixels: Pixels) -> pd.DataFrame:
    """How much CLS attends to the gist and the gist to CLS in each block, mean over heads and images.

    'uniform': what attention spread evenly over all tokens would give. Raises PeftlabError without a CLS token.
    """
    vit, rows = model.vit, []
    check_cls(vit)
    for weights in all_attention_maps(vit, prepare_for(vit, pixels)):
        weights = weights.mean((0, 1))
        gist = prefix_index(vit, "gist", len(weights))
        row = {"CLS to gist": weights[0, gist].item(), "gist to CLS": weights[gist, 0].item()}
        rows.append(row | {"uniform": 1 / len(weights)})
    return pd.DataFrame(rows, index=range(1, len(rows) + 1))
