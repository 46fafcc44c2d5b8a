"""What every method is: the contract, the registry, and the checks they share.

A method is one file with one frozen dataclass. Its fields are the options; `apply` changes a ViT in place, `count`
is the closed-form number of trained parameters, `merge` writes the change into plain weights. Which blocks are changed
is an option of every method, so each asks `self.blocks(vit)` for them.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, get_args, get_origin

from torch import nn
from torch.nn import functional as F

from ...backbones.types import Labels, Logits, ViT
from ...common.errors import PeftlabError, Range, check_choice, near

METHODS: dict[str, type["Method"]] = {}
FAMILIES = ("selective", "reparametrised", "additive", "prompt")


def option(default: Any, text: str, choices: Collection[str] = (), **bounds: float) -> Any:
    """A field of a method with the line of text that `peftlab methods NAME` and the reference show of it.

    A function is called for the default. choices: the values that there are, if they are few. bounds: of a number, or
    of each number in a tuple, as `Range` takes them; above=-math.inf where every finite number means something.
    """
    how: dict[str, Any] = {"default_factory": default} if callable(default) else {"default": default}
    limits = Range(**bounds) if bounds else None
    return field(**how, metadata={"text": text, "choices": tuple(choices), "range": limits})


@dataclass(frozen=True)
class Method:
    """Base of all methods. Subclasses are frozen dataclasses registered with `@register(name)`."""

    last_blocks: int | None = option(
        None, "change only the last so many blocks and what follows; none: everything", at_least=1
    )

    name: ClassVar[str]
    title: ClassVar[str]
    idea: ClassVar[str]  # one sentence for tables
    family: ClassVar[str]  # one of FAMILIES
    source: ClassVar[str]
    lr: ClassVar[float]  # a usual learning rate to start from, not tuned: select yours on val200
    identity_at_start: ClassVar[bool] = True  # features equal the frozen backbone's bit for bit before training
    not_mergeable: ClassVar[str] = ""  # the reason, where merging is impossible
    not_on_windows: ClassVar[str] = ""  # the reason, where a ViT of windows, whose blocks differ in width, is refused
    base_method: ClassVar["Method | None"] = None  # the method that this one is put around, if it is

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.metadata.get("choices"):
                check_choice(f.name, value, f.metadata["choices"])
            if f.metadata.get("range"):
                for number in value if isinstance(value, tuple) else (value,):
                    f.metadata["range"].check(f.name, number)

    def options(self) -> dict[str, Any]:
        """{option: value}; `create_method(name, **options)` gives an equal method."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def apply(self, vit: ViT) -> None:
        """Insert modules and make parameters trainable (with `unfreeze`), in place."""
        raise NotImplementedError

    def count(self, backbone: ViT) -> int:
        """Number of trained parameters without the head, from the shapes of the plain backbone alone."""
        raise NotImplementedError

    def merge(self, vit: ViT) -> None:
        """Replace inserted modules by plain ones that compute the same, in place."""

    def first(self) -> "Method | None":
        """The method of the stage before this one, if there is one; `begin` starts from its result."""
        return None

    def begin(self, vit: ViT, before: ViT, batches: Iterable, seed: int = 0) -> tuple["Method", list[nn.Parameter]]:
        """What training begins with, once and in place, such as a choice that depends on the images; mostly nothing.

        before: the ViT of the stage before, or the plain backbone where there is none. batches: (images, labels) of
        the training images, computed only if they are asked for. Returns the method as it now is and the parameters
        that stay frozen in this stage.
        """
        return self, []

    def loss(self, vit: ViT, logits: Logits, labels: Labels, label_smoothing: float = 0.0) -> dict[str, Any]:
        """What training minimises, {"loss": scalar, further terms for the curves}, after a forward pass of the ViT.

        label_smoothing: the recipe's, for each cross-entropy with the labels. A loss without it is refused by `fit`
        where a recipe asks for it.
        """
        return {"loss": F.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)}

    def blocks(self, vit: ViT, *needs: str) -> list[Any]:
        """The blocks to change, first to last. needs: paths that each must have, as 'attn.qkv'.

        Raises PeftlabError for an impossible last_blocks, and where a module is missing.
        """
        depth = len(vit.blocks)
        k = depth if self.last_blocks is None else self.last_blocks
        if not 1 <= k <= depth:
            raise PeftlabError(f"last_blocks is {k}, but must lie between 1 and the depth, {depth}")
        for i in range(depth - k, depth):
            for path in needs:
                try:
                    vit.blocks[i].get_submodule(path)
                except AttributeError:
                    which = getattr(vit, "peftlab_name", "this backbone")
                    raise PeftlabError(f"{self.name} needs blocks.{i}.{path}, which {which} does not have") from None
        return list(vit.blocks)[depth - k :]

    def trunk(self, vit: ViT) -> list[nn.Module]:
        """The modules from the first changed block to the features; the whole ViT where last_blocks is None."""
        if self.last_blocks is None:
            return [vit]
        after = [vit.norm, vit.fc_norm, vit.attn_pool]
        return [*self.blocks(vit), *(module for module in after if module is not None)]


def register(name: str) -> Callable[[type[Method]], type[Method]]:
    """Class decorator: makes a Method known to `attach`, the tables, the command line and the contract tests.

    Raises PeftlabError for a class without the texts and the learning rate that the tables show, and for an option
    that is a number without a range.
    """

    def add(cls: type[Method]) -> type[Method]:
        missing = [a for a in ("title", "idea", "family", "source", "lr") if not hasattr(cls, a)]
        if missing:
            raise PeftlabError(f"{cls.__name__} lacks {', '.join(missing)}; set them in the class, as LoRA does")
        if cls.family not in FAMILIES:
            raise PeftlabError(f"{cls.__name__}: unknown family {cls.family!r}{near(cls.family, FAMILIES)}")
        silent = [f.name for f in fields(cls) if not f.metadata.get("text")]
        if silent:
            raise PeftlabError(f"{cls.__name__}: no text for {', '.join(silent)}; write option(default, text)")
        loose = [f.name for f in fields(cls) if {int, float} & _kinds(f.type) and not f.metadata["range"]]
        if loose:
            raise PeftlabError(
                f"{cls.__name__}: no range for {', '.join(loose)}; write option(default, text, at_least=1)"
            )
        options = [f"- `{f.name}` ({_kind_and_range(f)}): {f.metadata['text']}" for f in fields(cls)]
        cls.__doc__ = "\n".join([f"{cls.title}: {cls.idea}. Options:\n", *options])  # what help and the reference show
        cls.name = name
        METHODS[name] = cls
        return cls

    return add


def create_method(name: str, **options: Any) -> Method:
    """A Method by name. Raises PeftlabError with the near names for unknown methods and options.

    >>> create_method("lora", rank=4).rank
    4
    >>> create_method("lora", rnk=4)
    Traceback (most recent call last):
    peftlab.common.errors.PeftlabError: method 'lora' has no option 'rnk'; did you mean 'rank'? Known: alpha, ...
    """
    check_choice("method", name, METHODS)
    kinds = {f.name: f.type for f in fields(METHODS[name])}
    if "base_method" in kinds and not isinstance(options.get("base_method"), Method):
        options = _with_base_method(name, kinds, options)
    for key, value in options.items():
        if key not in kinds:
            raise PeftlabError(f"method {name!r} has no option {key!r}{near(key, kinds) if kinds else ''}")
        options[key] = _as_kind(key, value, kinds[key])
    return METHODS[name](**options)


def _as_kind(name: str, value: Any, kind: Any) -> Any:
    """An option's value in the type that it was declared with, from what a command line or JSON may give."""
    if get_origin(kind) is tuple:  # a single value on the command line, a list in JSON
        each = value if isinstance(value, list | tuple) else (value,)
        return tuple(_as_kind(name, v, get_args(kind)[0]) for v in each)
    whole = isinstance(value, int) and not isinstance(value, bool)
    if whole and not isinstance(value, kind) and isinstance(1.0, kind):
        value = float(str(value))  # infinity, not an OverflowError, for a huge one
    if not isinstance(value, kind) or (isinstance(value, bool) and bool not in _kinds(kind)):
        raise PeftlabError(f"{name} is {value!r}, but must be of type {_kind_name(kind)}")
    return value


def _kinds(kind: Any) -> set[Any]:
    """The types that a type is made of: {int, NoneType} for `int | None`."""
    return set(get_args(kind)) or {kind}


def _kind_name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _kind_and_range(f: Any) -> str:
    return _kind_name(f.type) + (f", {f.metadata['range']}" if f.metadata["range"] else "")


def _with_base_method(outer: str, kinds: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """The options of a method around another: those that are not its own make the base method."""
    default = METHODS[outer]().base_method
    name = options.get("base_method") or (default.name if default else "")
    if name not in METHODS or name == outer:
        raise PeftlabError(f"{outer} cannot be put around {name!r}{near(name, METHODS.keys() - {outer})}")
    of_base = {f.name for f in fields(METHODS[name])}
    for key in options:
        if key not in kinds.keys() | of_base:
            raise PeftlabError(f"neither {outer} nor {name} has an option {key!r}{near(key, kinds.keys() | of_base)}")
    base = create_method(name, **{key: value for key, value in options.items() if key in of_base})
    if base.first() is not None:
        raise PeftlabError(f"{outer} cannot be put around {name!r}, which is trained in two stages")
    return {key: value for key, value in options.items() if key in kinds} | {"base_method": base}


def check_size(name: str, value: int, largest: int) -> None:
    """Raise PeftlabError unless a rank or bottleneck lies between 1 and the width it is meant to be smaller than."""
    if not 1 <= value <= largest:
        raise PeftlabError(f"{name} is {value}, but must lie between 1 and the width, {largest}")


def check_tokens(found: int, meant: int) -> None:
    """Raise PeftlabError for another number of tokens than at the input size for which places were laid out."""
    if found != meant:
        raise PeftlabError(
            f"{found} tokens, but the method was attached at an input size that gives {meant}; load the backbone with "
            "the img_size of these images"
        )


def check_targets(targets: Sequence[str], known: Collection[str]) -> None:
    """Raise PeftlabError for no targets, unknown ones (with the near names) and repeated ones."""
    for target in targets:
        check_choice("target", target, known)
    if not targets or len(set(targets)) < len(targets):
        raise PeftlabError(f"targets are {targets}; name at least one of {', '.join(known)}, each once")


def unfreeze(module: nn.Module, *names: str) -> None:
    """Make a module's own parameters trainable as private copies; the shared, frozen originals stay untouched."""
    for name in names:
        parameter = getattr(module, name, None)
        if parameter is not None:
            setattr(module, name, nn.Parameter(parameter.detach().clone()))
