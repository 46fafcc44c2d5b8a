"""peftlab: a workbook on parameter-efficient fine-tuning of Vision Transformers."""

from . import views
from .backbones import load_backbone
from .exercises import check
from .ledger import read_ledger
from .methods import METHODS, attach, load_adapter
from .statistics import accuracy_interval, mean_interval
from .tasks import VTAB, available_tasks, load_task, pick_tasks, task_names
from .training import evaluate, features, fit, predict

__all__ = [
    "METHODS",
    "VTAB",
    "accuracy_interval",
    "attach",
    "available_tasks",
    "check",
    "evaluate",
    "features",
    "fit",
    "load_adapter",
    "load_backbone",
    "load_task",
    "mean_interval",
    "pick_tasks",
    "predict",
    "read_ledger",
    "task_names",
    "views",
]
