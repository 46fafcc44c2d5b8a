"""The code of methods that are registered outside peftlab: part of what identifies their runs."""

import hashlib
import inspect
import json
from collections.abc import Iterator
from types import CodeType
from typing import Any

from .base import METHODS, Method


def own_methods() -> dict[str, type[Method]]:
    """The methods that are registered outside peftlab, by name."""
    return {name: cls for name, cls in METHODS.items() if not _ours(cls)}


def _ours(cls: type[Method]) -> bool:
    return cls.__module__.partition(".")[0] == __name__.partition(".")[0]


def own_code(method: Method) -> str:
    """Digest of a method's code and of what that refers to in its module; '' for a method of peftlab's own.

    Counted are functions, classes and plain constants that it reaches by name, those of the method that it is put
    around as well; not comments, and nothing else of its script or notebook. Another Python has other bytecode.
    """
    own = [type(each) for each in (method, method.base_method) if each is not None and not _ours(type(each))]
    seen: set[int] = set()
    texts = sorted(text for cls in own for text in _texts(cls, cls.__module__, seen))
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12] if texts else ""


def _texts(thing: Any, module: str, seen: set[int]) -> Iterator[str]:
    """What defines a class or function of this module, and all of the module that it refers to."""
    for inner in ("__func__", "fget", "func", "__wrapped__") if not isinstance(thing, type) else ():
        thing = getattr(thing, inner, thing)  # of decorated methods
    if id(thing) in seen or getattr(thing, "__module__", "") != module:
        return
    seen.add(id(thing))
    if isinstance(thing, type):
        used = dict(vars(thing)) | {base.__name__: base for base in thing.__bases__}
    elif inspect.isfunction(thing):
        parts = list(_parts(thing.__code__))
        constants = [[_plain(each) for each in part.co_consts] for part in parts]
        named = [(part.co_code.hex(), part.co_names) for part in parts]
        yield f"{thing.__qualname__}: {named} {constants}"
        used = {name: thing.__globals__.get(name) for part in parts for name in part.co_names}
        used |= dict(inspect.getclosurevars(thing).nonlocals) | (thing.__kwdefaults__ or {})
        used |= {f"default {i}": value for i, value in enumerate(thing.__defaults__ or ())}
    else:
        return
    for name, value in used.items():
        if not name.startswith("__") and (plain := _plain(value)) != "null":  # __doc__, __firstlineno__
            yield f"{thing.__qualname__}, {name} = {plain}"
        yield from _texts(value, module, seen)


def _parts(code: CodeType) -> Iterator[CodeType]:
    """The code of a function and of those within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _parts(constant)


def _plain(value: Any) -> str:
    """A constant of numbers and words as JSON; null for anything else."""
    try:
        return json.dumps(value, sort_keys=True)
    except (TypeError, ValueError):
        return "null"
