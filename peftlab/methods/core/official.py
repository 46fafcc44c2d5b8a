"""Checkpoints of GIFT's authors, as their code saves them (github.com/savadikarc/gift), loaded into our GIFT.

Their training saves `last.pth.tar` with timm's CheckpointSaver: under "state_dict" the generator and the head, never
the weights of the backbone; under "args" the options of the command line. With their usual target, `attn:proj`:

| in the file | here | shape |
|---|---|---|
| `in_projections.attn:proj.weight` | phi, `generator_o.reduce.weight` | [rank, d_in] |
| `out_projections.attn:proj.weight` | psi, `generator_o.recover.weight` | [d_in, rank] |
| `hypernets.attn:proj.blocks.0...` | hyper-blocks of v1, `generator_o.blocks.0...` | |
| `backbone.head.weight`, `backbone.head.bias` | `head.weight`, `head.bias` | [classes, D], [classes] |

Both sides are nn.Linear with weights [out, in], so nothing is transposed.
"""

import re
import warnings
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...common.errors import DataError, PeftlabError, check_choice, located
from .load import load_tensors
from .model import PeftModel, attach

# They name a target by the end of its module's path, with ":" for "."; ours has a word for each.
LAYERS = {"attn:proj": "o", "attn:qkv": "qkv", "mlp:fc1": "fc1", "mlp:fc2": "fc2"}
TARGETS = LAYERS | {name: name for name in ("qkv", "fc1", "fc2")}
METHODS = {"simple_block": "gift_linear", "pamcat_transformer": "gift"}
# Options of theirs that change the function but no tensor, with the value that ours has.
FIXED = {
    "gift_linear": {"gift_block_act_layer": "identity"},
    "gift": {"gift_block_norm_layer": "l2", "gift_block_cluster_activation": "sigmoid"},
}


def load_official(backbone: nn.Module, file: str | Path) -> PeftModel:
    """A checkpoint of GIFT's released code on its backbone: `gift_linear`, or `gift` where its generator has clusters.

    file: `last.pth.tar`. Their code also writes files of tensors alone; options that no tensor shows (number of heads,
    activations) are then taken to be its defaults. Warns of a backbone with another name.
    Raises PeftlabError for a file that is missing, damaged or holds more than tensors and options; for tensors that
    are missing, unexpected or of the wrong shape; for variants of GIFT that we do not have.
    """
    file = Path(file)
    tensors, args = _read(file)
    here = getattr(backbone, "peftlab_name", type(backbone).__name__)
    there = args.get("model", here)  # a name is all that the file says of its backbone
    if there != here:
        warnings.warn(f"{file}: trained on {there!r}, loaded on {here!r}", stacklevel=2)
    with located(file):
        method, targets, options = _variant(tensors, args)
        num_classes = _rows(tensors, "backbone.head.weight")
        model = attach(backbone, method, num_classes, targets=tuple(targets), **options)
    state = {_theirs(name, targets): tensor for name, tensor in model.adapter_state().items()}
    load_tensors(state, tensors, file)
    return model


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """-> (tensors by name, options of the command line: empty where the file holds tensors alone)."""
    if not file.is_file():
        raise DataError(f"{file}: no such file. Give the last.pth.tar that training with GIFT's code has written")
    try:
        # The file is a pickle, which could run any code. weights_only=True reads it with torch's restricted unpickler,
        # which makes tensors, numbers, texts and containers of them and refuses all else. Their files hold one class
        # more, that of the command line's options: an object that has attributes and does nothing.
        with torch.serialization.safe_globals([Namespace]):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of a dozen kinds, as the damage is
        asks = re.search(r"GLOBAL (\S+)", str(error))
        why = f"it asks for {asks[1]}, which is not run" if asks else f"{type(error).__name__}, so it is damaged"
        raise DataError(f"{file}: cannot be read as tensors and options ({why}). Get the file again") from None
    content = content if isinstance(content, dict) else {}
    tensors, args = content.get("state_dict", content), content.get("args", Namespace())
    named = isinstance(tensors, dict) and all(isinstance(k, str) and isinstance(t, Tensor) for k, t in tensors.items())
    if not (named and tensors and isinstance(args, Namespace)):
        raise DataError(f"{file}: holds no tensors by name under 'state_dict', so it is no checkpoint of GIFT's code")
    return dict(tensors), vars(args)


def _variant(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> tuple[str, dict[str, str], dict[str, Any]]:
    """-> (our method, {our target: their name of it}, further options). Raises PeftlabError for what is not ours."""
    found = re.findall(r"^in_projections\.(.+)\.weight$", "\n".join(tensors), re.MULTILINE)
    if not found:
        raise PeftlabError(f"has no in_projections, so it is no checkpoint of GIFT, but has {sorted(tensors)[:6]}")
    for target in found:
        check_choice("target", target, TARGETS)
    targets, blocks = {TARGETS[target]: target for target in found}, f"hypernets.{found[0]}.blocks."
    clustered = f"{blocks}0.attn.cluster.cluster.weight" in tensors
    generator = args.get("gift_block_block_type", "pamcat_transformer" if clustered else "simple_block")
    check_choice("generator", generator, METHODS)
    method = METHODS[generator]
    for option, value in FIXED[method].items():
        if args.get(option, value) != value:
            raise PeftlabError(f"was trained with {option} {args[option]!r}, but {method} has {value!r}")
    rank = _rows(tensors, f"in_projections.{found[0]}.weight")
    if method == "gift_linear":
        return method, targets, {"rank": rank}
    hidden = _rows(tensors, f"{blocks}0.mlp.fc1.weight")
    if hidden % rank:
        raise PeftlabError(f"the MLP of its hyper-blocks is {hidden} wide, but ours is a multiple of the rank, {rank}")
    sizes = {"rank": rank, "ratio": hidden // rank, "heads": args.get("gift_block_num_heads", 1)}
    sizes["clusters"] = _rows(tensors, f"{blocks}0.attn.cluster.cluster.weight")
    sizes["hyper_blocks"] = len({name.split(".")[3] for name in tensors if name.startswith(blocks)})
    return method, targets, sizes


def _rows(tensors: Mapping[str, Tensor], name: str) -> int:
    """The rows of a matrix. Raises PeftlabError where there is none of that name."""
    if name not in tensors or tensors[name].ndim != 2 or not len(tensors[name]):
        what = f"of shape {tuple(tensors[name].shape)}" if name in tensors else "missing"
        raise PeftlabError(f"{name} is {what}, but must be a matrix")
    return len(tensors[name])


def _theirs(name: str, targets: Mapping[str, str]) -> str:
    """The name that one of our tensors has in their files."""
    match = re.fullmatch(r"blocks\.0\.shared\.generator_(\w+?)\.(.+)", name)
    if match is None:  # of the head
        return f"backbone.{name}"
    target, rest = targets[match[1]], match[2]
    if rest.startswith("blocks."):
        return f"hypernets.{target}.{rest.replace('.cluster.', '.cluster.cluster.')}"
    return f"{'in' if rest == 'reduce.weight' else 'out'}_projections.{target}.weight"
