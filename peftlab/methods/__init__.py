"""Every module in this folder is a method, but for four: base.py, the contract of them all; layers.py, what several
are made of; contexts.py, adapters by context, for ViTs and language models; model.py, the tuned model. Importing the
package registers all methods.
"""

from importlib import import_module
from pkgutil import iter_modules

from .base import FAMILIES, METHODS, Method, create_method, register, unfreeze
from .model import PeftModel, attach, load_adapter

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "FAMILIES",
    "METHODS",
    "Method",
    "PeftModel",
    "attach",
    "create_method",
    "load_adapter",
    "register",
    "unfreeze",
]
