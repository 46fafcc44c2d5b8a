"""The command line: its commands, their arguments and the help."""

import argparse
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from ..common.errors import PeftlabError
from . import commands

Command = Callable[[argparse.Namespace], int | None]
"""What runs a command -> its exit status, None for 0."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line as everything else is said: in one sentence."""

    def error(self, message: str) -> NoReturn:
        raise PeftlabError(f"{message}. See: {self.prog} --help")


def _folder(text: str) -> Path:
    """A folder, which need not be there yet."""
    path = _path(text)
    if os.path.lexists(path) and not path.is_dir():  # a link that leads nowhere, too
        raise argparse.ArgumentTypeError(f"{path}: is not a folder; name another place")
    return path


def _file(text: str) -> Path:
    """A file to read; a FIFO, which never ends, is none."""
    path = _path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{path}: {'is not a file' if path.exists() else 'no such file'}")
    return path


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("the empty text '' names no file or folder")  # Path takes it for this folder
    return Path(text)


def parser() -> argparse.ArgumentParser:
    """The whole command line. Builds on names and constants alone, so that it needs neither torch nor pandas."""
    from ..backbones.protocols import AUGMENTATIONS, PRECISIONS, PROTOCOLS

    top = _Parser(prog="peftlab", description="Parameter-efficient fine-tuning of ViTs, looked at.")
    top.add_argument("--version", action="version", version=version("peftlab"))
    level = top.add_subparsers(dest="command", required=True)

    def command(name: str, run: Command, help: str, into: Any = level) -> argparse.ArgumentParser:
        new = into.add_parser(name, help=help, description=help)
        new.set_defaults(run=run)
        return new

    new = command("methods", commands.methods, "list the methods, or show one with its equation and options")
    new.add_argument("name", nargs="?", metavar="NAME", help="one method")
    command("tasks", commands.tasks, "list the tasks, and which are on disk")
    command("backbones", commands.backbones, "list the backbones")
    command("protocols", commands.protocols, "list the protocols: how images are prepared and how models are trained")

    backbone = "name, timm id with tag, or weights file named after its architecture; default: peftlab_vit_mini"
    new = command("fit", commands.fit, "train one method on one task and write it to the ledger")
    new.add_argument("method", metavar="METHOD", help="a name that `peftlab methods` lists")
    new.add_argument("task", metavar="TASK", help="a name that `peftlab tasks` lists, or a folder")
    new.add_argument("-o", "--option", action="append", default=[], help="an option of the method, as rank=8")
    new.add_argument("--backbone", default="peftlab_vit_mini", help=backbone)
    new.add_argument("--img-size", type=int, help="side in pixels, if other than the checkpoint's")
    new.add_argument(
        "--root", type=_path, help="VTAB-1k folder, or 'synthetic'; default: PEFTLAB_DATA, else synthetic"
    )
    new.add_argument("--protocol", default="peftlab", help=f"default: peftlab; one of: {', '.join(PROTOCOLS)}")
    new.add_argument("--epochs", type=int, help="default: the protocol's")
    new.add_argument("--batch-size", type=int, help="default: the protocol's")
    new.add_argument("--lr", type=float, help="default: the protocol's, or else the method's")
    new.add_argument("--precision", choices=PRECISIONS, help="default: auto, bf16 where the device has its arithmetic")
    new.add_argument("--cooldown-epochs", type=int, help="so many more at the lowest rate, after --epochs")
    new.add_argument("--label-smoothing", type=float, help="from 0 to below 1")
    new.add_argument("--augmentation", choices=AUGMENTATIONS, help="of training images; default: the protocol's")
    recompute: dict[str, Any] = {"action": "store_true", "help": "blocks are computed twice: less memory, more time"}
    new.add_argument("--gradient-checkpointing", **recompute)
    new.add_argument("--first-lr", type=float, help="of the first stage, where the method has two")
    new.add_argument("--first-epochs", type=int, help="of the first stage, where the method has two")
    splits = ["train800", "train800val200"]
    new.add_argument("--train-split", default=splits[1], choices=splits, help="default: train800val200")
    new.add_argument("--seed", type=int, default=0, help="of head, adapter and training; default: 0")
    new.add_argument("--device", help="cpu, cuda or mps; default: the fastest there is")
    new.add_argument("--runs", type=_folder, help="ledger folder; default: PEFTLAB_RUNS, else runs/")
    new.add_argument("--again", action="store_true", help="train also where the ledger has this run already")

    new = command("sweep", commands.sweep, "methods x tasks x seeds x hyper-parameters from a YAML grid, resumable")
    new.add_argument("grid", type=_file, metavar="GRID.yaml", help="see the README")
    new.add_argument(
        "--backbone", help="in place of the grid's, at its own size: name, timm id with tag, weights file"
    )
    new.add_argument("--img-size", type=int, help="side in pixels, in place of the grid's or the checkpoint's")
    new.add_argument("--jobs", type=int, default=1, help="local processes, or how many runs a cluster gets at once")
    new.add_argument("--backend", choices=["dask"], help="run on a Dask cluster; needs pip install 'peftlab[cluster]'")
    new.add_argument("--scheduler", metavar="ADDRESS", help="of the cluster, as tcp://host:8786")
    new.add_argument(
        "--runs", type=_folder, help="ledger folder, shared by all workers; default: PEFTLAB_RUNS, else runs/"
    )
    new.add_argument(
        "--csv", type=_path, help="a table that every finished run is written to at once; runs it has already are done"
    )
    new.add_argument("--dry-run", action="store_true", help="only print what is left, with an estimate in core-hours")

    new = command("compare", commands.compare, "a sweep's methods and tasks in one table, with intervals, as Markdown")
    new.add_argument("table", type=_file, metavar="TABLE.csv", help="what peftlab sweep --csv wrote")
    new.add_argument("--costs", type=_file, metavar="COSTS.csv", help="what peftlab costs --csv printed")

    command("claims", commands.claims, "what the papers claim, held against the tables in results/, as Markdown")

    new = command("costs", commands.costs, "parameters, GFLOPs, memory, time and size of each method on a backbone")
    new.add_argument("methods", nargs="*", metavar="METHOD", help="default: all")
    new.add_argument("--grid", type=_file, metavar="GRID.yaml", help="those of a grid; of values to try, the first")
    new.add_argument("--backbone", default="peftlab_vit_mini", help=backbone)
    new.add_argument("--random-weights", action="store_true", help="only the architecture, nothing is downloaded")
    new.add_argument("--img-size", type=int, help="side in pixels, if other than the checkpoint's")
    new.add_argument("--classes", type=int, default=10, help="size of the head; default: 10")
    new.add_argument("--batch-size", type=int, default=32, help="default: 32")
    new.add_argument("--device", help="cpu, cuda or mps; default: the fastest there is")
    new.add_argument("--precision", choices=PRECISIONS, default="auto", help="of times and memory")
    new.add_argument("--gradient-checkpointing", **recompute)
    new.add_argument("--csv", action="store_true", help="as CSV")

    new = command("ledger", commands.ledger, "print the ledger")
    new.add_argument("--runs", type=_folder, help="ledger folder; default: PEFTLAB_RUNS, else runs/")
    new.add_argument("--csv", action="store_true", help="all columns, as CSV")

    data = level.add_parser("data", help="fetch or check real data").add_subparsers(dest="what", required=True)
    new = command("fetch", commands.data_fetch, "download VTAB-1k from a public mirror, checked and resumable", data)
    new.add_argument("mirror", nargs="?", default="vtab-1k", help="name of a mirror, see data/README.md")
    new.add_argument("--to", type=_folder, help="folder to be; default: data/vtab-1k")
    new.add_argument("--url", help="an archive of your own in the same layout")
    new.add_argument("--sha256", help="refuse the archive unless it has this checksum")
    about = "check real tasks or your own images: counts, balance, copies, bad files"
    new = command("audit", commands.data_audit, about, data)
    new.add_argument("folder", nargs="?", type=_path, help="or a CSV file of your own images; default: PEFTLAB_DATA")

    new = command("workbook", commands.workbook, "run every notebook and write one self-contained HTML report")
    new.add_argument("--profile", choices=["fast", "full"], default="fast")
    new.add_argument("--only", help="only notebooks whose name begins so, as 02")
    new.add_argument("--jobs", type=int, default=1, help="notebooks at a time; they share the cores")
    new.add_argument("--reader", action="store_true", help="pages without exercises, for readers who do none")
    new.add_argument("--pdf", action="store_true", help="each page as a PDF, too; needs Chromium or Chrome")
    new.add_argument("--out", type=_folder, default=Path("reports"))

    about = "compare methods on your own images: one page, and the recommended model for timm"
    new = command("report", commands.report, about)
    about = "of class folders, or a CSV file with columns path and label"
    new.add_argument("folder", type=_path, metavar="FOLDER", help=about)
    what = "name, timm id with tag, or weights file; default: peftlab_vit_small"
    new.add_argument("--backbone", default="peftlab_vit_small", help=what)
    new.add_argument("--img-size", type=int, help="side in pixels, if other than the checkpoint's")
    new.add_argument("--methods", metavar="NAME,NAME", help="default: linear,lora,norm,gist,full")
    new.add_argument("--seeds", type=int, default=2, help="trainings of each method; default: 2")
    new.add_argument(
        "--minutes", type=float, default=30, help="for training, what does not fit is left out; default: 30"
    )
    new.add_argument("--budget", type=int, help="at most so many images to train and choose on; default: all")
    new.add_argument("--epochs", type=int, default=10, help="default: 10")
    new.add_argument("--out", type=_folder, default=Path("reports"), help="folder of the page; default: reports")
    new.add_argument("--pdf", action="store_true", help="the page as a PDF, too; needs Chromium or Chrome")

    classes = level.add_parser("class", help="make what a class needs").add_subparsers(dest="what", required=True)
    about = "student and instructor notebooks, slides and tests that grade, from the lessons"
    new = command("build", commands.class_build, about, classes)
    new.add_argument("folder", type=_folder, metavar="OUT", help="what you changed there is never written over")
    new.add_argument("--only", help="only lessons whose name begins so, as 00 or 00,03")
    new.add_argument("--reports", type=_folder, default=Path("reports"), help="of peftlab workbook; default: reports")
    new.add_argument("--repository", metavar="OWNER/NAME", help="of your fork on GitHub, for Binder and Colab")

    new = command("init", commands.init, "copy the lessons into a folder of your own; what you changed there stays")
    new.add_argument("folder", type=_folder, metavar="DIR")
    new = command("lab", commands.lab, "open your copy of the lessons in JupyterLab")
    new.add_argument(
        "folder", nargs="?", type=_folder, metavar="DIR", help="default: this one if it has them, else lab/"
    )
    return top
