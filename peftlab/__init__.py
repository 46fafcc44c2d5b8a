"""peftlab: a workbook on parameter-efficient fine-tuning of Vision Transformers."""

from . import captioning, importance, peeking, results, segmentation, shift, statistics, views
from .backbones import load_backbone
from .costs import cost_card
from .exercises import check
from .ledger import read_ledger
from .methods import FAMILIES, METHODS, attach, load_adapter
from .prediction import evaluate, features, first_images, predict
from .statistics import accuracy_interval, mean_interval
from .tasks import VTAB, available_tasks, load_task, pick_tasks, task_names
from .training import fit

__all__ = [
    "FAMILIES",
    "METHODS",
    "VTAB",
    "accuracy_interval",
    "attach",
    "available_tasks",
    "captioning",
    "check",
    "cost_card",
    "evaluate",
    "features",
    "first_images",
    "fit",
    "importance",
    "load_adapter",
    "load_backbone",
    "load_task",
    "mean_interval",
    "peeking",
    "pick_tasks",
    "predict",
    "read_ledger",
    "results",
    "segmentation",
    "shift",
    "statistics",
    "task_names",
    "views",
]
