"""The logit lens: a model's own final norm, pooling and head, read after every block instead of after the last.

For language models by nostalgebraist 2020, "interpreting GPT: the logit lens"; for every token of ViTs by Vilas et al.
2023, arXiv 2310.18969, as projection into class embedding space. Here the pooled token (CLS) alone is read, as the
head does. The head was trained for the last block only: where it reads nothing, another may still find the answer, so
a head of each block's own belongs beside it (`block_features`, `probes.linear_probe_accuracy`).

>>> from peftlab.backbones.load import load_backbone
>>> from peftlab.methods import attach
>>> model, x = attach(load_backbone(), "lora", num_classes=5), torch.zeros(2, 3, 64, 64)
>>> logits = block_logits(model, x)  # 6 blocks, 2 images, 5 classes; the last block's are the model's answer
>>> logits.shape, logits[-1].allclose(model(x), atol=1e-5)
(torch.Size([6, 2, 5]), True)
"""

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ..backbones.preprocess import prepare_for
from ..backbones.stages import stages
from ..backbones.swin import refuse_windows
from ..backbones.types import Images, Labels, Pixels, ViT
from ..common.errors import PeftlabError
from ..methods.core.model import PeftModel
from ..results.statistics import accuracy_interval

BlockLogits = Float[Tensor, "blocks batch classes"]


@torch.no_grad()
def block_features(model: PeftModel | ViT, x: Images) -> Float[Tensor, "blocks batch width"]:
    """What a head would read after each block, of prepared images: final norm and pooling, for ViT-S/14 its CLS."""
    vit: ViT = getattr(model, "vit", model)
    refuse_windows(vit, "has blocks of several widths, of which its final norm and head read the last alone")
    embed, *blocks, pool, _ = stages(vit)
    tokens, found = embed.run(x), []
    number = tokens.shape[1]
    for block in blocks:
        tokens = block.run(tokens)
        found.append(pool.run(without_inserted(tokens, number, vit.num_prefix_tokens)))
    return torch.stack(found)


def without_inserted(
    tokens: Float[Tensor, "batch _more width"], number: int, prefix_tokens: int
) -> Float[Tensor, "batch _number width"]:
    """A sequence cut to as many tokens as the backbone has: CLS stays the first, patches the last.

    A method's tokens (gist, prompts) stand behind CLS and before the patches until its last hook takes them away. Of
    registers some of the method's may stay instead; no pooling of CLS or of patches reads them.

    >>> without_inserted(torch.tensor([[[0.0], [9.0], [1.0], [2.0]]]), number=3, prefix_tokens=1).flatten()
    tensor([0., 1., 2.])
    """
    return torch.cat([tokens[:, :prefix_tokens], tokens[:, tokens.shape[1] - number + prefix_tokens :]], dim=1)


@torch.no_grad()
def block_logits(model: PeftModel | ViT, x: Images) -> BlockLogits:
    """The head's answer after each block, of prepared images. Raises PeftlabError for a ViT without a head."""
    vit: ViT = getattr(model, "vit", model)
    if not vit.num_classes:
        raise PeftlabError("this ViT has no head to read blocks with; attach a method and train it, or load a run")
    return vit.head(block_features(vit, x))


def settled(logits: BlockLogits) -> Bool[Tensor, "blocks batch"]:
    """Whether the answer after a block is the final one and remains it in all later blocks.

    >>> right, wrong = [0.0, 1.0], [1.0, 0.0]
    >>> settled(torch.tensor([[right], [wrong], [right], [right]])).flatten()  # block 1 has it, block 2 loses it
    tensor([False, False,  True,  True])
    """
    answers = logits.argmax(-1)
    return (answers == answers[-1]).flip(0).int().cummin(0).values.flip(0).bool()


def appears(logits: BlockLogits) -> Int64[Tensor, " batch"]:
    """The block, counted from 1, from which on the answer stays the final one.

    >>> appears(torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]], [[0.0, 1.0]], [[0.0, 1.0]]]))
    tensor([3])
    """
    return len(logits) - settled(logits).sum(0) + 1


def lens_table(logits: BlockLogits, labels: Labels) -> pd.DataFrame:
    """The lens over images -> DataFrame, a row a block, with Wilson's 95 % intervals over images.

    Columns: block (from 1), images, accuracy, low, high; agreement (with the final answer), agreement low, agreement
    high; settled (share of `settled`); probability (of the right class, mean).

    >>> table = lens_table(torch.tensor([[[2.0, 0.0]], [[0.0, 2.0]]]), torch.tensor([1]))
    >>> table[["block", "accuracy", "agreement", "settled", "probability"]].round(2).values.tolist()
    [[1.0, 0.0, 0.0, 0.0, 0.12], [2.0, 1.0, 1.0, 1.0, 0.88]]
    """
    answers, stays = logits.argmax(-1), settled(logits)
    columns = labels.expand(len(logits), -1)[..., None]
    probability = logits.softmax(-1).gather(-1, columns)[..., 0]
    rows = []
    for block, answer in enumerate(answers):
        accuracy, agreement = ((answer == other).double().mean().item() for other in (labels, answers[-1]))
        (low, high), (alow, ahigh) = (accuracy_interval(share, len(labels)) for share in (accuracy, agreement))
        row = {"block": block + 1, "images": len(labels), "accuracy": accuracy, "low": low, "high": high}
        row |= {"agreement": agreement, "agreement low": alow, "agreement high": ahigh}
        row |= {"settled": stays[block].double().mean().item(), "probability": probability[block].mean().item()}
        rows.append(row)
    return pd.DataFrame(rows)


def top_classes(model: PeftModel, pixels: Pixels) -> pd.DataFrame:
    """The likeliest class after each block for one image -> DataFrame, a row a block: class and its probability.

    Also the probability that the block gives to the final answer.
    """
    logits = block_logits(model, prepare_for(model.vit, pixels[:1]))[:, 0]
    probabilities, final = logits.softmax(-1).cpu(), int(logits[-1].argmax())
    names = model.classes or range(probabilities.shape[1])
    top = probabilities.max(-1)
    rows = {"class": [names[i] for i in top.indices.tolist()], "probability": top.values.tolist()}
    blocks = pd.RangeIndex(1, len(logits) + 1, name="block")
    return pd.DataFrame(rows | {f"of {names[final]}": probabilities[:, final].tolist()}, index=blocks)
