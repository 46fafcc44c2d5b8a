"""Every module in this folder is a method; importing the package registers them all."""

from importlib import import_module
from pkgutil import iter_modules

from .base import METHODS, Method, PeftModel, attach, create_method, load_adapter, register, unfreeze

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["METHODS", "Method", "PeftModel", "attach", "create_method", "load_adapter", "register", "unfreeze"]
