"""How images are prepared and how a model is trained, as named, hashed data.

Papers on the same benchmark differ in interpolation, normalisation and recipe, and the difference can exceed the
differences between methods. So a protocol has a name, a source and a hash, and the hash stands in every ledger row.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ..common.errors import PeftlabError, Range, check_choice

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
AUGMENTATIONS = {  # what becomes of a training image in each epoch, after it was resized; see training/augmentation.py
    "none": "nothing",
    "crop": "a crop of 8 to 100 % of its area, resized, then a flip or none",
    "shift": "a crop of 7/8 of its sides, resized, then a flip or none",
    "randaugment": "a flip or none, then two random changes of geometry or colour (timm's rand-m9-mstd0.5-inc1)",
}


def _later(default: Any) -> Any:
    """A field that recipes did not have at first: at its default it stands in no hash and in no record."""
    return field(default=default, metadata={"later": True})


@dataclass(frozen=True)
class Recipe:
    """AdamW with linear warm-up and cosine decay. lr None means the method's own default.

    precision: of forward and backward passes. "bf16" is autocast, where losses and norms stay in fp32; "auto" is bf16
    on devices that have its arithmetic, and fp32 elsewhere.
    cooldown_epochs: so many more at min_lr, after the `epochs` of warm-up and decay; as in timm, they are not among
    those. label_smoothing: s of the targets (1 - s) onehot + s / classes; what is measured on a split is the plain
    cross-entropy. augmentation: of training images, a key of AUGMENTATIONS; nothing is computed once then.
    gradient_checkpointing: blocks keep only their input for the backward pass and are computed a second time there,
    which takes less memory and more time. No result depends on it, so it stands in no hash: a run that was begun
    without it goes on with it, where memory is short.
    """

    epochs: int = 20
    batch_size: int = 64
    lr: float | None = None
    weight_decay: float = 1e-4
    warmup_epochs: float = 2
    min_lr: float = 1e-5
    drop_path: float = 0.0  # rate at the last block, growing linearly from 0
    precision: str = "auto"  # one of PRECISIONS
    cooldown_epochs: int = _later(0)
    label_smoothing: float = _later(0.0)
    augmentation: str = _later("none")
    gradient_checkpointing: bool = field(default=False, compare=False)

    @property
    def total_epochs(self) -> int:
        """All epochs, with those of the cooldown."""
        return self.epochs + self.cooldown_epochs

    @property
    def content(self) -> dict[str, Any]:
        """What influences a result, for hashes and records.

        Later fields are left out at their default, so that runs from before they came keep their names.

        >>> sorted(Recipe(label_smoothing=0.1).content.keys() - Recipe().content.keys())
        ['label_smoothing']
        """
        compared = [f for f in fields(self) if f.compare]
        kept = [f.name for f in compared if "later" not in f.metadata or getattr(self, f.name) != f.default]
        return {name: getattr(self, name) for name in kept}


RANGES = {  # what a recipe's values may be
    "epochs": Range(at_least=1, below=2**31),
    "batch_size": Range(at_least=1, below=2**31),
    "lr": Range(above=0),
    "weight_decay": Range(at_least=0),
    "warmup_epochs": Range(at_least=0),
    "min_lr": Range(at_least=0),
    "drop_path": Range(at_least=0, below=1),
    "cooldown_epochs": Range(at_least=0, below=2**31),
    "label_smoothing": Range(at_least=0, below=1),
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
        content = [asdict(self.preprocessing), self.recipe.content]
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
        wanted = changes.get("gradient_checkpointing", False)
        if not isinstance(wanted, bool):
            raise PeftlabError(f"gradient_checkpointing is {wanted!r}; give True or False")
        recipe = replace(self.recipe, **changes)
        for name, values in RANGES.items():
            values.check(name, getattr(recipe, name))
        check_choice("precision", recipe.precision, PRECISIONS)
        check_choice("augmentation", recipe.augmentation, AUGMENTATIONS)
        return replace(self, recipe=recipe)


_HUNDRED = Recipe(epochs=100, lr=1e-3, warmup_epochs=10, drop_path=0.1)

# Of a released script that has values for each task, here are those of most tasks. min_lr and cooldown are timm's.
_SSF_VTAB = Recipe(
    epochs=100, lr=5e-3, weight_decay=5e-5, warmup_epochs=10, min_lr=1e-8, drop_path=0.0, cooldown_epochs=10
)

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
        Protocol(
            "gift_fgvc",
            "GIFT v2 on FGVC: as gift, with its crops of 224 of 256 pixels; lr from its validation grid. Ours: test "
            "images are not cropped",
            Preprocessing("bilinear", "half"),
            replace(_HUNDRED, lr=None, min_lr=1e-6, augmentation="shift"),
        ),
        Protocol(
            "gist",
            "GIST: github.com/JCruan519/GIST, train_scripts/vit/train_vtab.sh and defaults of train.py; lr, weight "
            "decay and drop path of most of its tasks. Ours: bf16 or fp32, not fp16; the cosine begins after the "
            "warm-up; the last epoch counts, not the best on test",
            Preprocessing("bicubic", "half"),
            _SSF_VTAB,
        ),
        Protocol(
            "ssf",
            "SSF on VTAB-1k: github.com/dongzelian/SSF, train_scripts/vit/vtab: task by task what GIST has",
            Preprocessing("bicubic", "half"),
            _SSF_VTAB,
        ),
        Protocol(
            "ssf_fgvc",
            "SSF on FGVC: github.com/dongzelian/SSF, train_scripts/vit/fgvc; lr of CUB and Flowers. Ours: without its "
            "mixup 0.8, cutmix 1, random erasing 0.25 and moving average of weights; test images are not cropped",
            Preprocessing("bicubic", "half"),
            replace(_SSF_VTAB, lr=1e-2, weight_decay=0.05, augmentation="crop", label_smoothing=0.1),
        ),
        Protocol(
            "sct",
            "SCT: github.com/showlab/SCT, run_model_sct.sh, configs/model_sct/vtab and vtab.py; lr and weight decay: "
            "medians over its tasks; smoothing and augmentation: those of most. It augments nothing on cifar, "
            "caltech101, oxford_flowers102, sun397, dsprites and smallnorb, and smooths on no structured task but "
            "kitti. Ours: no decay of biases; the last epoch counts, not the best on test",
            Preprocessing("bicubic", "imagenet"),
            replace(_HUNDRED, lr=6.2e-3, weight_decay=0.01, label_smoothing=0.1, augmentation="randaugment"),
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
