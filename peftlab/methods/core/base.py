"""What every method is: the contract, the registry, and the checks they share.

A method is one file with one frozen dataclass. Its fields are the options; `apply` changes a ViT in place, `count`
is the closed-form number of trained parameters, `merge` writes the change into plain weights. Which blocks are changed
is an option of every method, so each asks `self.blocks(vit)` for them.
"""

from dataclasses import dataclass, fields
from typing import ClassVar

from torch import nn
from torch.nn import functional as F

from ...common.errors import PeftlabError, check_choice, near

METHODS = {}
FAMILIES = ("selective", "reparametrised", "additive", "prompt")


@dataclass(frozen=True)
class Method:
    """Base of all methods. Subclasses are frozen dataclasses registered with `@register(name)`.

    last_blocks: change only the last k blocks and what follows them; None: all blocks and the embedding before them.
    """

    last_blocks: int | None = None

    name: ClassVar[str]
    title: ClassVar[str]
    idea: ClassVar[str]  # one sentence for tables
    family: ClassVar[str]  # one of FAMILIES
    source: ClassVar[str]
    lr: ClassVar[float]  # a usual learning rate to start from, not tuned: select yours on val200
    identity_at_start: ClassVar[bool] = True  # features equal the frozen backbone's bit for bit before training
    not_mergeable: ClassVar[str] = ""  # the reason, where merging is impossible

    def options(self):
        """{option: value}; `create_method(name, **options)` gives an equal method."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def apply(self, vit):
        """Insert modules and make parameters trainable (with `unfreeze`), in place."""
        raise NotImplementedError

    def count(self, backbone):
        """Number of trained parameters without the head, from the shapes of the plain backbone alone."""
        raise NotImplementedError

    def merge(self, vit):
        """Replace inserted modules by plain ones that compute the same, in place."""

    def first(self):
        """The method to be trained before this one, whose result `begin(vit, before, batches, seed)` starts from."""
        return None

    def loss(self, vit, logits, labels):
        """What training minimises, {"loss": scalar, further terms for the curves}, after a forward pass of the ViT."""
        return {"loss": F.cross_entropy(logits.float(), labels)}

    def blocks(self, vit, *needs):
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

    def trunk(self, vit):
        """The modules from the first changed block to the features; the whole ViT where last_blocks is None."""
        if self.last_blocks is None:
            return [vit]
        after = [vit.norm, vit.fc_norm, getattr(vit, "attn_pool", None)]
        return [*self.blocks(vit), *(module for module in after if module is not None)]


def register(name):
    """Class decorator: makes a Method known to `attach`, the tables, the command line and the contract tests.

    Raises PeftlabError for a class without the texts and the learning rate that the tables show.
    """

    def add(cls):
        missing = [a for a in ("title", "idea", "family", "source", "lr") if not hasattr(cls, a)]
        if missing:
            raise PeftlabError(f"{cls.__name__} lacks {', '.join(missing)}; set them in the class, as LoRA does")
        if cls.family not in FAMILIES:
            raise PeftlabError(f"{cls.__name__}: unknown family {cls.family!r}{near(cls.family, FAMILIES)}")
        cls.name = name
        METHODS[name] = cls
        return cls

    return add


def create_method(name, **options):
    """A Method by name. Raises PeftlabError with the near names for unknown methods and options."""
    check_choice("method", name, METHODS)
    kinds = {f.name: f.type for f in fields(METHODS[name])}
    if isinstance(options.get("base_method", ""), str) and "base_method" in kinds:
        options = _with_base_method(METHODS[name], kinds, options)
    for option, value in options.items():
        if option not in kinds:
            raise PeftlabError(f"method {name!r} has no option {option!r}{near(option, kinds) if kinds else ''}")
        if kinds[option] is tuple:  # a single name on the command line, a list in JSON
            options[option] = value = (value,) if isinstance(value, str) else tuple(value)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if whole and not isinstance(value, kinds[option]) and isinstance(1.0, kinds[option]):
            options[option] = value = float(value)
        if not isinstance(value, kinds[option]):
            kind = getattr(kinds[option], "__name__", kinds[option])
            raise PeftlabError(f"{option} is {value!r}, but must be of type {kind}")
    return METHODS[name](**options)


def _with_base_method(method, kinds, options):
    """The options of a method around another: those that are not its own make the base method."""
    name = options.get("base_method") or method().base_method.name
    if name not in METHODS or name == method.name:
        raise PeftlabError(f"{method.name} cannot be put around {name!r}{near(name, METHODS.keys() - {method.name})}")
    of_base = {f.name for f in fields(METHODS[name])}
    for option in options:
        if option not in kinds.keys() | of_base:
            raise PeftlabError(
                f"neither {method.name} nor {name} has an option {option!r}{near(option, kinds.keys() | of_base)}"
            )
    base = create_method(name, **{option: value for option, value in options.items() if option in of_base})
    if base.first() is not None:
        raise PeftlabError(f"{method.name} cannot be put around {name!r}, which is trained in two stages")
    return {option: value for option, value in options.items() if option in kinds} | {"base_method": base}


def check_size(name, value, largest):
    """Raise PeftlabError unless a rank or bottleneck lies between 1 and the width it is meant to be smaller than."""
    if not 1 <= value <= largest:
        raise PeftlabError(f"{name} is {value}, but must lie between 1 and the width, {largest}")


def check_targets(targets, known):
    """Raise PeftlabError for no targets, unknown ones (with the near names) and repeated ones."""
    for target in targets:
        check_choice("target", target, known)
    if not targets or len(set(targets)) < len(targets):
        raise PeftlabError(f"targets are {targets}; name at least one of {', '.join(known)}, each once")


def unfreeze(module, *names):
    """Make a module's own parameters trainable as private copies; the shared, frozen originals stay untouched."""
    for name in names:
        parameter = getattr(module, name, None)
        if parameter is not None:
            setattr(module, name, nn.Parameter(parameter.detach().clone()))
