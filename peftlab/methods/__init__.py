"""Every module in this folder is one method; `core` holds what they are made of. Importing registers all methods."""

from importlib import import_module
from pkgutil import iter_modules

from .core.base import FAMILIES, METHODS, Method, create_method, register, unfreeze
from .core.load import load_adapter
from .core.model import PeftModel, attach
from .core.official import load_official
from .core.resident import Adapters

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "FAMILIES",
    "METHODS",
    "Adapters",
    "Method",
    "PeftModel",
    "attach",
    "create_method",
    "load_adapter",
    "load_official",
    "register",
    "unfreeze",
]
