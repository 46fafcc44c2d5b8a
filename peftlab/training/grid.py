"""Grids: what a sweep is to run, from a YAML file, checked before anything runs.

    tasks: [dtd, eurosat]
    seeds: [0, 1, 2]
    recipe: {epochs: 5, batch_size: 32}
    methods:
      lora: {rank: [4, 8], lr: [1e-3, 5e-3]}              # every combination is tried on val200
      "LoRA, all layers": {method: lora, targets: [[q, k, v, o, fc1, fc2]]}   # one choice, which is itself a list
      two_stage: {lr: [1e-3, 5e-3], first_lr: 0.02}       # of two stages; the first has a rate and a length of its own
      linear: {}

Further keys: backbone, img_size, root, protocol, tune_on, evaluate_each_epoch, train_images. recipe, and each method's
entry beside its options, may set epochs, batch_size, lr, weight_decay, drop_path, precision, cooldown_epochs,
label_smoothing, augmentation, gradient_checkpointing, first_lr and first_epochs; the entry's count. Numbers may be
written as text, as YAML takes 1e-3 to be.

Whoever has only one combination needs no tuning. Candidates are trained on train800 with the first seed and compared
on val200; the best is trained on train800val200 with every seed. Each task chooses its own, unless tune_on lists
tasks: then the best mean over those serves all tasks. evaluate_each_epoch lists splits: then nothing is chosen; every
candidate is trained on train800 with every seed and evaluated on them after each epoch, to show what test-set
selection does. train_images: only the first so many, for quick lessons.

A grid has each key once, no anchors, and at most 100 kB, 1,000 candidates and 100,000 runs. Each candidate is attached
once to the architecture without weights, so that what cannot be attached is found before the first run.
"""

import itertools
import json
import math
import reprlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from ..backbones.protocols import Protocol, get_protocol
from ..common.errors import PeftlabError, check_choice, located, near
from ..common.paths import expanded
from ..methods import Method, create_method
from ..tasks.load import load_task
from ..tasks.vtab1k import SPLITS
from .attachable import architecture, check_attaches
from .grid_yaml import read_yaml

CANDIDATES, RUNS = 1_000, 100_000  # at most, in one grid
NUMBERS = (int, float, int | None, float | None)  # the types of options that are numbers
FIRST = ("first_lr", "first_epochs")  # what belongs to the first of two stages


def _number(value: Any) -> Any:
    """A number that is written as text, as a number; anything else as it is."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        raise PeftlabError("must be a finite number")
    return value


def _distinct(values: list) -> list:
    twice = [value for value, times in Counter(values).items() if times > 1]
    if twice:
        raise PeftlabError(f"must name each once, and {twice[0]!r} stands there twice")
    return values


Whole = Annotated[int, BeforeValidator(_number)]
Real = Annotated[float, BeforeValidator(_number)]
Positive = Annotated[Whole, Field(ge=1)]
Seeds = Annotated[list[Annotated[Whole, Field(ge=0, lt=2**32)]], Field(min_length=1), AfterValidator(_distinct)]
Names = Annotated[list[str], Field(min_length=1), AfterValidator(_distinct)]


class Settings(BaseModel):
    """What a grid may set of a recipe, and of that of a first stage; None is what the protocol or the method says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: Whole | None = None
    batch_size: Whole | None = None
    lr: Real | None = None
    weight_decay: Real | None = None
    drop_path: Real | None = None
    precision: str | None = None
    cooldown_epochs: Whole | None = None
    label_smoothing: Real | None = None
    augmentation: str | None = None
    gradient_checkpointing: bool | None = None
    first_lr: Real | None = None
    first_epochs: Whole | None = None


class Grid(BaseModel):
    """What a grid file says; see the module. Raises PeftlabError for what no run can be made of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tasks: Names
    methods: Annotated[dict[Annotated[str, Field(min_length=1)], dict[str, Any] | None], Field(min_length=1)]
    seeds: Seeds = [0, 1, 2]
    recipe: Settings = Settings()
    backbone: str = "peftlab_vit_mini"
    img_size: Positive | None = None
    root: Annotated[str, Field(min_length=1)] | None = None
    protocol: str = "peftlab"
    tune_on: Names | None = None
    evaluate_each_epoch: Annotated[list[str], AfterValidator(_distinct)] = []
    train_images: Positive | None = None

    def __init__(self, **content: Any) -> None:
        with _one_sentence(Grid):
            super().__init__(**content)
        _check(self)

    def candidates(self) -> dict[str, list[dict[str, Any]]]:
        """{label: all its combinations, each {"method", "options", "recipe"}}, with all options given."""
        return {label: _candidates(self, label) for label in self.methods}


def read_grid(file: str | Path, **changes: Any) -> Grid:
    """A Grid from a YAML file, with some of its keys replaced.

    Raises PeftlabError for what it does not understand, before anything runs.
    """
    with located(file):
        return Grid(**read_yaml(Path(file)) | changes)


def grid_methods(grid: Grid) -> dict[str, Method]:
    """{label: Method}, each with the first of its combinations."""
    first = {label: candidates[0] for label, candidates in grid.candidates().items()}
    return {label: create_method(each["method"], **each["options"]) for label, each in first.items()}


def _candidates(grid: Grid, label: str) -> list[dict[str, Any]]:
    entry = dict(grid.methods[label] or {})
    method = entry.pop("method", label)
    return [
        _candidate(method, dict(zip(entry, combination, strict=True)), grid.recipe)
        for combination in itertools.product(*_choices(entry))
    ]


def _choices(entry: dict[str, Any]) -> list[list[Any]]:
    """The values to try for each key of an entry."""
    return [values if isinstance(values, list) else [values] for values in entry.values()]


def _candidate(name: Any, entry: dict[str, Any], recipe: Settings) -> dict[str, Any]:
    """One combination -> {"method", "options", "recipe"}: options in full, of the recipe what the method has."""
    if not isinstance(name, str):
        raise PeftlabError(f"method is {name!r}, but must be one name; give each method an entry of its own")
    schema = _schema(create_method(name, **{key: value for key, value in entry.items() if key == "base_method"}))
    with _one_sentence(schema):
        content = schema(**entry).model_dump(exclude_unset=True)
    method = create_method(name, **{key: value for key, value in content.items() if key not in Settings.model_fields})
    own = {key: value for key, value in content.items() if key in Settings.model_fields}
    together = recipe.model_dump(exclude_unset=True) | own
    if method.first() is None:
        for key in own.keys() & FIRST:
            raise PeftlabError(f"{key} is {own[key]!r}, but {name} has no first stage; leave {key} out")
        together = {key: value for key, value in together.items() if key not in FIRST}
    return {"method": name, "options": method.options(), "recipe": together}


@cache
def _schema(method: Method) -> type[Settings]:
    """What may stand in the entry of a method: settings, its options and those of its base method, if it has one."""
    options = {f.name: f.type for each in (method.base_method, method) if each for f in fields(each)}
    schema: dict[str, Any] = {
        name: (Annotated[kind, BeforeValidator(_number)] if kind in NUMBERS else Any, None)
        for name, kind in options.items()
    }
    return create_model(method.name, __base__=Settings, **schema)


def _check(grid: Grid) -> None:
    """Raise PeftlabError for names that are not known, too many runs, and candidates that cannot be attached."""
    _check_size(grid)
    if grid.root not in (None, "synthetic") and not expanded(grid.root).is_dir():
        raise PeftlabError(f"root is {grid.root!r}, but there is no such folder; name one in the VTAB-1k layout")
    for split in grid.evaluate_each_epoch:
        with located("evaluate_each_epoch"):
            check_choice("split", split, SPLITS)
    protocol = get_protocol(grid.protocol)
    candidates = {label: _check_candidates(grid, label, protocol) for label in grid.methods}
    with located("tasks"):
        classes = min([load_task(name, grid.root).num_classes for name in grid.tasks])
    with located("tune_on"):
        for name in grid.tune_on or []:
            load_task(name, grid.root)
    with located("backbone"):
        vit = architecture(grid.backbone, grid.img_size)
    for label, methods in candidates.items():
        with located(f"methods.{label}"):
            for method in methods:
                check_attaches(vit, method, classes)


def _check_size(grid: Grid) -> None:
    """Raise PeftlabError for a method with nothing to try, too many candidates, and too many runs."""
    candidates = {label: math.prod(map(len, _choices(entry or {}))) for label, entry in grid.methods.items()}
    for label, number in candidates.items():
        if number == 0:
            raise PeftlabError(
                f"methods.{label}: an empty list leaves nothing to try; write a value, or leave the key out"
            )
    total = sum(candidates.values())
    runs = total * len(grid.tasks) * len(grid.seeds)
    for number, most, what in ((total, CANDIDATES, "candidates"), (runs, RUNS, "runs")):
        if number > most:
            raise PeftlabError(
                f"{number:,} {what}, but a grid has at most {most:,}; shorten its lists, or make two grids"
            )


def _check_candidates(grid: Grid, label: str, protocol: Protocol) -> list[Method]:
    """The distinct methods among the candidates of one entry. Raises PeftlabError for impossible ones."""
    with located(f"methods.{label}"):
        candidates = _candidates(grid, label)
        for recipe in (each["recipe"] for each in candidates):
            protocol.with_recipe(**{key: value for key, value in recipe.items() if key not in FIRST})
            with located("the first stage"):
                protocol.with_recipe(lr=recipe.get("first_lr"), epochs=recipe.get("first_epochs"))
        if len({json.dumps(each, sort_keys=True) for each in candidates}) < len(candidates):
            raise PeftlabError("two of the combinations are the same; name each value once")
        return list(dict.fromkeys(create_method(each["method"], **each["options"]) for each in candidates))


@contextmanager
def _one_sentence(schema: type[BaseModel]) -> Iterator[None]:
    """Within, what a schema refuses raises a PeftlabError about the first mistake."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        *before, key = first["loc"]
        path = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = (Settings if before else schema).model_fields
            raise PeftlabError(f"unknown key {path!r}{near(key, known)}") from None
        if first["type"] == "missing":
            raise PeftlabError(f"{path} is missing; a grid names its tasks and methods") from None
        problem = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        raise PeftlabError(
            f"{path} is {reprlib.repr(first['input'])}, but {problem[0].lower()}{problem[1:]}"
        ) from None
