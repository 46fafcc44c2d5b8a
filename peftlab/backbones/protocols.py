"""How images are prepared and how a model is trained, as named, hashed data.

Papers on the same benchmark differ in interpolation, normalisation and recipe, and the difference can exceed the
differences between methods. So a protocol has a name, a source and a hash, and the hash stands in every ledger row.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..common.errors import Range, check_choice

NORMALISATIONS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),  # inputs in [-1, 1]
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),  # inputs in [0, 1]
}


@dataclass(frozen=True)
class Preprocessing:
    """Direct resize to the backbone's input size (no crop, no flip), then normalisation.

    interpolation: 'bicubic' or 'bilinear'. normalisation: a key of NORMALISATIONS, or 'backbone' for the mean and
    standard deviation the backbone was pre-trained with.
    """

    interpolation: str = "bicubic"
    normalisation: str = "backbone"


PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True)
class Recipe:
    """AdamW with linear warm-up and cosine decay. lr None means the method's own default.

    precision: of forward and backward passes. "bf16" is autocast, where losses and norms stay in fp32; "auto" is bf16
    on devices that have its arithmetic, and fp32 elsewhere.
    """

    epochs: int = 20
    batch_size: int = 64
    lr: float | None = None
    weight_decay: float = 1e-4
    warmup_epochs: float = 2
    min_lr: float = 1e-5
    drop_path: float = 0.0  # rate at the last block, growing linearly from 0
    precision: str = "auto"  # one of PRECISIONS


RANGES = {  # what a recipe's values may be
    "epochs": Range(at_least=1, below=2**31),
    "batch_size": Range(at_least=1, below=2**31),
    "lr": Range(above=0),
    "weight_decay": Range(at_least=0),
    "warmup_epochs": Range(at_least=0),
    "min_lr": Range(at_least=0),
    "drop_path": Range(at_least=0, below=1),
}


@dataclass(frozen=True)
class Protocol:
    """A named pair of preprocessing and recipe; rates: learning rates of methods found under it, by name."""

    name: str
    source: str
    preprocessing: Preprocessing = Preprocessing()
    recipe: Recipe = Recipe()
    rates: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def hash(self) -> str:
        """12 hex digits over everything that influences a result; the name and source do not.

        Nor do `rates`: the one that a run used stands in its recipe.
        """
        content = [asdict(self.preprocessing), asdict(self.recipe)]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def learning_rate(self, method: Any) -> float:
        """The recipe's, else the one found for the method or its base method, else the method's own default."""
        base = method.base_method or method
        return self.recipe.lr or self.rates.get(base.name) or method.lr

    def with_recipe(self, **changes: Any) -> "Protocol":
        """The same protocol with some of the recipe's fields replaced; `None` leaves a field as it is.

        Raises PeftlabError with the near names for an unknown field, and for a value outside `RANGES`.
        """
        for name in changes:
            check_choice("setting", name, asdict(self.recipe))
        changes = {key: value for key, value in changes.items() if value is not None}
        recipe = replace(self.recipe, **changes)
        for name, values in RANGES.items():
            values.check(name, getattr(recipe, name))
        check_choice("precision", recipe.precision, PRECISIONS)
        return replace(self, recipe=recipe)


_HUNDRED = Recipe(epochs=100, lr=1e-3, warmup_epochs=10, drop_path=0.1)

_SHORT = Recipe(epochs=4, batch_size=16, warmup_epochs=1)

# Found by `peftlab sweep grids/comparison.yaml`: three for each method, the best mean over val200 of dtd, eurosat and
# dsprites_loc on the embedded backbone at 32 px. The search is in results/comparison.csv (train_split train800).
_RATES = {
    "linear": 0.05,
    "full": 2e-4,
    "norm": 0.02,
    "bitfit": 0.02,
    "two_stage": 1e-3,  # of its second stage; the first has that of norm
    "lora": 5e-3,
    "ia3": 0.02,
    "ssf": 0.02,
    "fact": 5e-3,
    "gift": 5e-3,
    "gift_linear": 5e-3,
    "context_peft": 5e-3,
    "adapter": 0.01,
    "adaptformer": 0.02,
    "parallel": 5e-3,
    "convpass": 2e-3,
    "vpt": 0.01,
}

PROTOCOLS = {
    p.name: p
    for p in (
        Protocol("peftlab", "ours: short, the backbone's native inputs"),
        Protocol("short", "ours: what 2 CPU cores can repeat", recipe=_SHORT, rates=_RATES),
        Protocol("short_unnormalised", "short, fed as OSU-MLB", Preprocessing("bicubic", "none"), _SHORT, _RATES),
        Protocol("noah", "NOAH, FacT, Convpass: their public code", Preprocessing("bicubic", "imagenet"), _HUNDRED),
        Protocol(
            "gift",
            "GIFT v2: its public code; lr from its val200 grid",
            Preprocessing("bilinear", "half"),
            replace(_HUNDRED, lr=None, min_lr=1e-6),
        ),
        Protocol("osu", "OSU-MLB re-evaluation: un-normalised inputs", Preprocessing("bicubic", "none"), _HUNDRED),
    )
}


def get_protocol(protocol: str | Protocol) -> Protocol:
    """A Protocol by name; a Protocol is returned as it is. Raises PeftlabError with the near names.

    >>> gift = get_protocol("gift")
    >>> gift.recipe.epochs, gift.preprocessing
    (100, Preprocessing(interpolation='bilinear', normalisation='half'))
    >>> gift.with_recipe(epochs=10).hash == gift.hash
    False
    """
    if isinstance(protocol, Protocol):
        return protocol
    check_choice("protocol", protocol, PROTOCOLS)
    return PROTOCOLS[protocol]
