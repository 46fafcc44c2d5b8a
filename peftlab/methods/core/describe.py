"""What a method is, for readers: its equation beside the code that computes it, and its options with their texts."""

import inspect
import re
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from importlib import import_module
from typing import Any

import pandas as pd
from torch import nn

from ...common.errors import check_choice
from .base import METHODS, Method


@dataclass(frozen=True)
class Source:
    """A method's docstring and the code that computes it; a notebook shows both, `print` gives the plain text."""

    title: str
    text: str
    code: str

    def __str__(self) -> str:
        return f"{self.text}\n\n{self.code}"

    def _repr_markdown_(self) -> str:
        lead, _, entries = self.text.partition("\n\n")
        lead = lead.partition(": ")[2]
        entries = re.sub(r"(?m)^([A-Z][\w ]{2,24}): ", r"\n- **\1.** ", entries)
        entries = re.sub(r"\n {2,}(?=\S)", "<br>\n  ", entries)  # an equation in several lines stays so
        return f"### {self.title}\n\n{lead[:1].upper()}{lead[1:]}\n{entries}\n\n```python\n{self.code}\n```"


def source(name: str) -> Source:
    """The idea, equation, shapes and start of a method beside the `forward` (or the `apply`) that computes it.

    Raises PeftlabError with the near names for an unknown method.

    >>> "class LoRALinear" in source("lora").code
    True
    """
    check_choice("method", name, METHODS)
    method = METHODS[name]
    module = import_module(method.__module__)
    own = [item for item in vars(module).values() if inspect.isclass(item) and item.__module__ == module.__name__]
    parts = [item for item in own if issubclass(item, nn.Module)]
    # GIST's loss and the tokens' hooks are computed outside any forward; PiSSA changes two factors of LoRA's.
    wanted = ("forward", "enter", "leave", "after_attention", "delta", "down", "up")
    code = [_code(part, _called(part, wanted)) for part in parts]
    code = [text for text in code if text] or [_code(method, ["apply"], whole=False)]
    if "loss" in vars(method):
        code.append(_code(method, ["loss"], whole=False))
    functions = [f for f in vars(module).values() if inspect.isfunction(f) and f.__module__ == module.__name__]
    used = [f for f in functions if re.search(rf"\b{f.__name__}\(", "\n".join(code))]
    code = [*(inspect.getsource(inspect.unwrap(f)).rstrip() for f in used), *code]
    return Source(method.title, inspect.getdoc(module) or "", "\n\n\n".join(code))


def _called(cls: type, names: Sequence[str]) -> list[str]:
    """Those of the functions that a class has, and whatever of its own they call, as the file has them."""
    found = [name for name in names if name in vars(cls)]
    for name in found:  # grows while it is read
        calls = re.findall(r"\bself\.(\w+)\(", inspect.getsource(inspect.unwrap(vars(cls)[name])))
        found += [call for call in calls if call in vars(cls) and call not in found]
    return [name for name in vars(cls) if name in found]


def _code(cls: type, names: list[str], whole: bool = True) -> str:
    """The source of some functions of a class, below its name if `whole`."""
    texts = [inspect.getsource(inspect.unwrap(vars(cls)[name])).rstrip() for name in names]
    if not whole:
        return "\n\n".join(inspect.cleandoc("\n" + text) for text in texts)
    return f"class {cls.__name__}:\n" + "\n\n".join(texts) if texts else ""


def options(name: str) -> pd.DataFrame:
    """The options of a method -> DataFrame: option, default, values, what it does, in the order of declaration.

    values: the choices, or the range of a number.

    >>> options("gist").set_index("option")["values"].to_dict()["dropout"]
    'at least 0 and below 1'
    """
    check_choice("method", name, METHODS)
    declared = sorted(fields(METHODS[name]), key=lambda f: f.name == "last_blocks")
    rows = [(f.name, _default(f), _values(f), f.metadata["text"]) for f in declared]
    return pd.DataFrame(rows, columns=["option", "default", "values", "what it does"])


def _default(f: Any) -> str:
    value = f.default if f.default is not MISSING else f.default_factory()
    if isinstance(value, Method):
        return value.name
    return " ".join(map(str, value)) if isinstance(value, tuple) else "none" if value is None else str(value)


def _values(f: Any) -> str:
    return " ".join(f.metadata["choices"]) or str(f.metadata["range"] or "")
