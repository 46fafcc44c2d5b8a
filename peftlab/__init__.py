"""peftlab: a workbook on parameter-efficient fine-tuning of Vision Transformers.

The names below are the public interface. Each is imported when it is first used, so that `import peftlab` and
`peftlab --help` take no time; everything else is found in the room that bears its subject's name.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Threads that wait for work shall sleep. By default they spin, and where other processes want the same cores, as on a
# shared server, one training then takes three times as long. Read when torch is loaded, so it must come before.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:  # for editors and type checkers
    from . import captioning, views
    from .analysis import clusters, shift
    from .analysis.costs import cost_card
    from .backbones.load import load_backbone
    from .methods import METHODS, attach, load_adapter, load_official
    from .methods.core import importance
    from .methods.core.describe import source
    from .results import selection, statistics
    from .results.published import read_results
    from .tasks.load import available_tasks, load_task, pick_tasks
    from .tasks.photographs import photographs
    from .training.evaluate import features, first_images
    from .training.fit import fit
    from .training.trained import load_run
    from .workbook.exercises import check

# Where each name lives: a module of the package, and the name in it where that is not a module itself.
_PUBLIC = {
    "captioning": "captioning",
    "clusters": "analysis.clusters",
    "importance": "methods.core.importance",
    "shift": "analysis.shift",
    "statistics": "results.statistics",
    "selection": "results.selection",
    "views": "views",
    "METHODS": "methods:METHODS",
    "attach": "methods:attach",
    "available_tasks": "tasks.load:available_tasks",
    "check": "workbook.exercises:check",
    "cost_card": "analysis.costs:cost_card",
    "features": "training.evaluate:features",
    "first_images": "training.evaluate:first_images",
    "fit": "training.fit:fit",
    "load_adapter": "methods:load_adapter",
    "load_backbone": "backbones.load:load_backbone",
    "load_official": "methods:load_official",
    "load_run": "training.trained:load_run",
    "load_task": "tasks.load:load_task",
    "photographs": "tasks.photographs:photographs",
    "pick_tasks": "tasks.load:pick_tasks",
    "read_results": "results.published:read_results",
    "source": "methods.core.describe:source",
}

__all__ = [
    "METHODS",
    "attach",
    "available_tasks",
    "captioning",
    "check",
    "clusters",
    "cost_card",
    "features",
    "first_images",
    "fit",
    "importance",
    "load_adapter",
    "load_backbone",
    "load_official",
    "load_run",
    "load_task",
    "photographs",
    "pick_tasks",
    "read_results",
    "selection",
    "shift",
    "source",
    "statistics",
    "views",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'peftlab' has no attribute {name!r}; it has {', '.join(__all__)}")
    module, _, attribute = _PUBLIC[name].partition(":")
    found = import_module(f"{__name__}.{module}")
    value = getattr(found, attribute) if attribute else found
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
