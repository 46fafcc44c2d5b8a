"""The `peftlab` command. What a command needs is imported when it runs, so that help and version come at once."""

import argparse
import contextlib
import io
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from .common.errors import DataError, PeftlabError
from .common.paths import named_folders

Command = Callable[[argparse.Namespace], int | None]
"""What runs a command -> its exit status, None for 0."""


def methods(args: argparse.Namespace) -> None:
    import pandas as pd

    from .methods import METHODS, create_method
    from .methods.core.describe import options, source

    if args.name is not None:
        table = options(args.name)
        print(source(args.name).text)
        print("\nOptions (-o name=value)\n" + (table.to_string(index=False) if len(table) else "none"))
        return
    rows = [(name, m.family, m.title, m.idea, create_method(name).lr, m.source) for name, m in sorted(METHODS.items())]
    columns = ["method", "family", "title", "idea", "default lr", "source"]
    print(pd.DataFrame(rows, columns=columns).to_string(index=False))
    print("\nOne method with its equation and options: peftlab methods NAME")


def tasks(args: argparse.Namespace) -> None:
    import pandas as pd

    from .common.paths import data_root
    from .tasks.load import about_task, available_tasks, task_group, task_names
    from .tasks.synthetic.registry import SYNTHETIC

    root = data_root()
    there = available_tasks(root) if root else []
    rows = []
    for name in task_names():
        marks = ("yes" if name in there else "", "yes" if name in SYNTHETIC else "")
        rows.append((name, task_group(name), *marks, about_task(name)))
    print(pd.DataFrame(rows, columns=["task", "group", "on disk", "synthetic task", "about"]).to_string(index=False))
    print(f"\n'on disk' looks into PEFTLAB_DATA: {root or 'not set'}")


def backbones(args: argparse.Namespace) -> None:
    from .backbones.load import EMBEDDED, load_backbone

    for number, name in enumerate(EMBEDDED):
        vit = load_backbone(name)
        millions = sum(p.numel() for p in vit.parameters()) / 1e6
        height, width = vit.patch_embed.img_size
        shape = f"{vit.embed_dim} wide, {len(vit.blocks)} blocks, {height}x{width} px"
        print(f"{name}  (embedded{', the default' * (number == 0)})  {shape}, {millions:.2f} M parameters")
    print("Also any timm VisionTransformer by its id with tag, for example vit_base_patch16_224.augreg_in21k,")
    print("or the path of a .safetensors / .npz file.")


def protocols(args: argparse.Namespace) -> None:
    import pandas as pd

    from .backbones.protocols import PROTOCOLS

    rows = [{"protocol": p.name} | vars(p.preprocessing) | vars(p.recipe) for p in PROTOCOLS.values()]
    left_to_the_machine = ["precision", "gradient_checkpointing"]
    print(pd.DataFrame(rows).drop(columns=left_to_the_machine).to_string(index=False, na_rep="the method's"))
    print("\nSources", *(f"{p.name}: {p.source}" for p in PROTOCOLS.values()), sep="\n")


def _option(text: str) -> tuple[str, Any]:
    """An option of a method as the command line spells it. Raises PeftlabError without `=`.

    >>> _option("rank=8"), _option("targets=q,v"), _option("deep=false")
    (('rank', 8), ('targets', ('q', 'v')), ('deep', False))
    """
    key, found, value = text.partition("=")
    if not (key and found):
        raise PeftlabError(f"option {text!r} is not of the form name=value, as in rank=8")
    if value.lower() in ("true", "false"):
        return key, value.lower() == "true"
    kinds: tuple[type[int], type[float]] = (int, float)
    for kind in kinds:
        try:
            return key, kind(value)
        except ValueError:
            continue
    return key, tuple(value.split(",")) if "," in value else value


def _options(texts: Iterable[str]) -> dict[str, Any]:
    """The options of a method. Raises PeftlabError for a name given twice: which value would be meant?"""
    options: dict[str, Any] = {}
    for key, value in map(_option, texts):
        if key in options:
            raise PeftlabError(f"option {key!r} is given twice, as {options[key]!r} and {value!r}; give it once")
        options[key] = value
    return options


def fit(args: argparse.Namespace) -> None:
    from .backbones.load import load_backbone
    from .methods import attach, create_method
    from .tasks.load import load_task
    from .training.fit import fit

    started = datetime.now(UTC).isoformat(timespec="seconds")
    task = load_task(args.task, args.root)
    method = create_method(args.method, **_options(args.option))
    backbone = load_backbone(args.backbone, img_size=args.img_size)
    model = attach(backbone, method, task.num_classes, seed=args.seed)
    run = fit(
        model,
        task,
        protocol=args.protocol,
        epochs=args.epochs,
        batch_size=args.batch_size,
        lr=args.lr,
        precision=args.precision,
        cooldown_epochs=args.cooldown_epochs,
        label_smoothing=args.label_smoothing,
        augmentation=args.augmentation,
        gradient_checkpointing=args.gradient_checkpointing or None,
        train_split=args.train_split,
        seed=args.seed,
        device=args.device,
        runs=args.runs,
        first_lr=args.first_lr,
        first_epochs=args.first_epochs,
        reuse=not args.again,
    )
    split = "val200" if args.train_split == "train800" else "test"
    accuracy = run.evaluate(split)
    record = run.record
    print(
        f"{args.method} on {task.title}: {split} accuracy {100 * accuracy:.1f} %, "
        f"{record['parameters']:,} parameters + head {record['head_parameters']:,}, {record['seconds']:.1f} s"
        f"{'' if record['finished'] >= started else ', from the ledger; --again trains it again'}\n"
        f"{run.folder}"
    )


def sweep(args: argparse.Namespace) -> int:
    from .common.files import require_writable
    from .results.tables import comparison_table
    from .training.estimate import estimate
    from .training.grid import read_grid
    from .training.sweep import on_cluster, sweep

    if (args.backend == "dask") != bool(args.scheduler):
        raise PeftlabError("a Dask cluster is named by both: --backend dask --scheduler tcp://host:8786")
    if args.csv:
        require_writable(args.csv)  # at once, not after the grid was checked
    changes = {} if args.img_size is None else {"img_size": args.img_size}
    if args.backbone is not None:
        changes = {"backbone": args.backbone, "img_size": args.img_size}  # the grid's size is for its own
    grid = read_grid(args.grid, **changes)
    how = {"runs": args.runs, "processes": args.jobs, "table": args.csv}
    with on_cluster(args.scheduler) if args.scheduler else contextlib.nullcontext():
        if args.dry_run:
            print(_outlook(estimate(grid, **how)))
            return 0
        table, failed = sweep(grid, **how)
    if len(table):
        final = table[table["train_split"] == "train800val200"]
        if len(final):
            print("test accuracy (%), 95 % intervals\n" + comparison_table(final).to_string())
    for job in failed:
        print(f"failed: {job['label']} on {job['task']}, seed {job['seed']}: {job['error']}; {job['failure']}")
    return 1 if failed else 0


def _outlook(table: Any) -> str:
    """What `estimate` gives, with the sums in a sentence."""
    left, done = (int(table.filter(regex=f" {word}$").to_numpy().sum()) for word in ("left", "done"))
    return (
        f"{table.to_string(float_format='{:.2f}'.format)}\n\n{left} of {left + done} runs left: "
        f"{table['core-hours'].sum():.2f} core-hours, seconds x threads / 3600\n"
        "by: the median of so many runs that are done, or a few steps on random images, measured here and now"
    )


def compare(args: argparse.Namespace) -> None:
    from .results.published import read_table
    from .results.tables import COSTS, comparison_table, cost_rows, final_runs, markdown

    table, costs = final_runs(_with_columns(read_table(args.table), args.table, _COMPARED), args.table), None
    if args.costs:
        costs = cost_rows(_with_columns(read_table(args.costs), args.costs, ["method", *COSTS]), args.costs)
        if missing := sorted(set(table["label"].astype(str)) - set(costs.index.astype(str))):
            raise DataError(f"{args.costs}: has no row {', '.join(missing)}. Make it with: peftlab costs --grid --csv")
        _same_parameters(table, args.table, costs, args.costs)
    print(markdown(comparison_table(table, costs=costs)))


def _same_parameters(table: Any, file: Path, costs: Any, costs_file: Path) -> None:
    """Raise DataError where a card is of other options than those that val200 chose."""
    for label, chosen in (table.groupby("label")["parameters"].unique() if "parameters" in table else {}).items():
        if len(chosen) == 1 and chosen[0] != (there := costs["parameters"][label]):
            raise DataError(
                f"{costs_file}: {label} has {there:,} parameters, but {chosen[0]:,} in {file}, where other options "
                "were chosen. Leave these alone in the grid, and make the card again with: peftlab costs --grid --csv"
            )


def claims(args: argparse.Namespace) -> None:
    from .analysis.claims import as_markdown, judge, read_claims

    claims = read_claims()
    print(as_markdown(claims, judge(claims)), end="")


_COMPARED = ("label", "task", "group", "synthetic", "seed", "train_split", "test_accuracy")


def _with_columns(table: Any, file: Path, columns: Iterable[str]) -> Any:
    """The same table. Raises DataError, naming its file, where it lacks columns."""
    if missing := [name for name in columns if name not in table]:
        raise DataError(f"{file}: has no column {', '.join(missing)}, so it is another table. Name the right one")
    return table


def costs(args: argparse.Namespace) -> None:
    from .analysis.costs import cost_card
    from .backbones.load import load_backbone
    from .training.grid import grid_methods, read_grid

    methods = args.methods
    if args.grid:
        if methods:
            raise PeftlabError(f"name methods or a grid, not both: {' '.join(methods)}, {args.grid}")
        grid = read_grid(args.grid)
        args.backbone, args.img_size, methods = grid.backbone, grid.img_size, grid_methods(grid)
    backbone = load_backbone(args.backbone, pretrained=not args.random_weights, img_size=args.img_size)
    how = (args.classes, args.batch_size, args.device, args.precision, args.gradient_checkpointing)
    card = cost_card(backbone, methods, *how)
    if args.csv:
        card.to_csv(sys.stdout)
    else:
        print(card.to_string(float_format="{:,.2f}".format))
        setting = f"{backbone.peftlab_name}, head for {args.classes} classes, batches of {args.batch_size}"
        print(f"\n{setting}; GFLOPs for one image, latency of one image")


def ledger(args: argparse.Namespace) -> None:
    from .results.ledger import read_ledger

    table = read_ledger(args.runs)
    if table.empty:
        print("the ledger is empty; fill it with: peftlab fit METHOD TASK")
    elif args.csv:
        table.to_csv(sys.stdout, index=False)
    else:
        columns = ["task", "synthetic", "method", "seed", "train_split", "parameters", "val_accuracy", "test_accuracy"]
        print(table.reindex(columns=[*columns, "seconds"]).to_string(index=False))


def data_fetch(args: argparse.Namespace) -> None:
    from .tasks.mirrors.fetch import fetch

    print(fetch(args.mirror, args.to, url=args.url, sha256=args.sha256))


def data_audit(args: argparse.Namespace) -> int:
    from .common.paths import data_root
    from .tasks.audit import audit

    folder = args.folder or data_root()
    if folder is None:
        raise PeftlabError("nothing to audit: name a folder, or set PEFTLAB_DATA to a VTAB-1k folder")
    result = audit(folder)
    print(result)
    return 1 if result.problems else 0


def workbook(args: argparse.Namespace) -> int:
    from .workbook.lessons import LESSONS
    from .workbook.run import build_workbook

    pages = build_workbook(
        LESSONS,
        args.out,
        profile=args.profile,
        only=args.only,
        jobs=args.jobs,
        reader=args.reader,
        pdf=args.pdf,
    )
    return 0 if all(page.ok for page in pages) else 1


def report(args: argparse.Namespace) -> int:
    from .workbook.report import METHODS, build_report

    page, error = build_report(
        args.folder,
        args.out,
        backbone=args.backbone,
        img_size=args.img_size,
        methods=METHODS if args.methods is None else args.methods.split(","),
        seeds=args.seeds,
        minutes=args.minutes,
        budget=args.budget,
        epochs=args.epochs,
        pdf=args.pdf,
    )
    print(page)
    return _say(f"{page}: the report's notebook failed ({error})", 1) if error else 0


def class_build(args: argparse.Namespace) -> None:
    from .workbook.classroom import build_class

    build_class(args.folder, only=args.only, reports=args.reports, repository=args.repository)


def init(args: argparse.Namespace) -> None:
    from .workbook.lessons import copy_lessons, lesson_folder

    folder = lesson_folder(args.folder)
    print(
        *copy_lessons(folder),
        f"the lessons are in {folder}; open them with: peftlab lab {shlex.quote(str(folder))}",
        sep="\n",
    )


def lab(args: argparse.Namespace) -> None:
    from .workbook.lessons import copy_lessons, draw_data, lesson_folder, open_lab

    folder = lesson_folder(args.folder)
    print(*copy_lessons(folder), f"your copy of the lessons: {folder}", sep="\n", flush=True)
    draw_data()
    open_lab(folder)


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
    from .backbones.protocols import AUGMENTATIONS, PRECISIONS, PROTOCOLS

    top = _Parser(prog="peftlab", description="Parameter-efficient fine-tuning of ViTs, looked at.")
    top.add_argument("--version", action="version", version=version("peftlab"))
    commands = top.add_subparsers(dest="command", required=True)

    def command(name: str, run: Command, help: str, into: Any = commands) -> argparse.ArgumentParser:
        new = into.add_parser(name, help=help, description=help)
        new.set_defaults(run=run)
        return new

    new = command("methods", methods, "list the methods, or show one with its equation and options")
    new.add_argument("name", nargs="?", metavar="NAME", help="one method")
    command("tasks", tasks, "list the tasks, and which are on disk")
    command("backbones", backbones, "list the backbones")
    command("protocols", protocols, "list the protocols: how images are prepared and how models are trained")

    backbone = "name, timm id with tag, or weights file named after its architecture; default: peftlab_vit_mini"
    new = command("fit", fit, "train one method on one task and write it to the ledger")
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

    new = command("sweep", sweep, "methods x tasks x seeds x hyper-parameters from a YAML grid, resumable")
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

    new = command("compare", compare, "the table of methods and tasks of a sweep, with intervals, as Markdown")
    new.add_argument("table", type=_file, metavar="TABLE.csv", help="what peftlab sweep --csv wrote")
    new.add_argument("--costs", type=_file, metavar="COSTS.csv", help="what peftlab costs --csv printed")

    command("claims", claims, "what the papers claim, held against the tables in results/, as Markdown")

    new = command("costs", costs, "parameters, GFLOPs, memory, time and size of each method on a backbone")
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

    new = command("ledger", ledger, "print the ledger")
    new.add_argument("--runs", type=_folder, help="ledger folder; default: PEFTLAB_RUNS, else runs/")
    new.add_argument("--csv", action="store_true", help="all columns, as CSV")

    data = commands.add_parser("data", help="fetch or check real data").add_subparsers(dest="what", required=True)
    new = command("fetch", data_fetch, "download VTAB-1k from a public mirror, checked and resumable", data)
    new.add_argument("mirror", nargs="?", default="vtab-1k", help="name of a mirror, see data/README.md")
    new.add_argument("--to", type=_folder, help="folder to be; default: data/vtab-1k")
    new.add_argument("--url", help="an archive of your own in the same layout")
    new.add_argument("--sha256", help="refuse the archive unless it has this checksum")
    new = command("audit", data_audit, "check real tasks or your own images: counts, balance, copies, bad files", data)
    new.add_argument("folder", nargs="?", type=_path, help="or a CSV file of your own images; default: PEFTLAB_DATA")

    new = command("workbook", workbook, "run every notebook and write one self-contained HTML report")
    new.add_argument("--profile", choices=["fast", "full"], default="fast")
    new.add_argument("--only", help="only notebooks whose name begins so, as 02")
    new.add_argument("--jobs", type=int, default=1, help="notebooks at a time; they share the cores")
    new.add_argument("--reader", action="store_true", help="pages without exercises, for readers who do none")
    new.add_argument("--pdf", action="store_true", help="each page as a PDF, too; needs Chromium or Chrome")
    new.add_argument("--out", type=_folder, default=Path("reports"))

    new = command("report", report, "compare methods on your own images: one page, and the recommended model for timm")
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

    classes = commands.add_parser("class", help="make what a class needs").add_subparsers(dest="what", required=True)
    about = "student and instructor notebooks, slides and tests that grade, from the lessons"
    new = command("build", class_build, about, classes)
    new.add_argument("folder", type=_folder, metavar="OUT", help="what you changed there is never written over")
    new.add_argument("--only", help="only lessons whose name begins so, as 00 or 00,03")
    new.add_argument("--reports", type=_folder, default=Path("reports"), help="of peftlab workbook; default: reports")
    new.add_argument("--repository", metavar="OWNER/NAME", help="of your fork on GitHub, for Binder and Colab")

    new = command("init", init, "copy the lessons into a folder of your own; what you changed there stays")
    new.add_argument("folder", type=_folder, metavar="DIR")
    new = command("lab", lab, "open your copy of the lessons in JupyterLab")
    new.add_argument(
        "folder", nargs="?", type=_folder, metavar="DIR", help="default: this one if it has them, else lab/"
    )
    return top


class _Stopped(KeyboardInterrupt):
    """What a batch system or `timeout` sends, or a terminal that is closed: whatever tidies up on Ctrl-C does so."""


STOPS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Windows has one of them


def _stop(number: int, frame: object) -> NoReturn:
    for each in STOPS:
        signal.signal(each, signal.SIG_IGN)  # `timeout` sends it twice
    raise _Stopped(number)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Exit status: 0 done, 1 something failed or was found, 2 wrong use, 141 unread, 128 + a signal.

    argv: None takes that of this process, which then is the command, so that its signals and output are ours.
    """
    run: Command | None = None
    if argv is None:
        for number in STOPS:
            if signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores one
                signal.signal(number, _stop)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # as stderr, for names in bytes that are no UTF-8
    try:
        words = list(sys.argv[1:] if argv is None else argv)
        if any("\0" in word for word in words):
            raise PeftlabError("an argument holds a NUL byte, which no name of a file or value has. Remove it")
        os.environ.update(named_folders())  # kernels and workers start in other folders
        args = parser().parse_args(words)
        run = args.run
        status = run(args) or 0
        sys.stdout.flush()  # what nobody reads is noticed here, not when Python ends
        return status
    except PeftlabError as error:
        return _say(error, 2)
    except BrokenPipeError:  # `head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes what is left to write
        return 141
    except OSError as error:
        where = "PEFTLAB_RUNS and PEFTLAB_CACHE move the ledger and drawn or fetched data"
        return _say(
            f"{error}. Check that the folder exists, may be written to and that the disk is not full; {where}", 1
        )
    except FloatingPointError as error:
        return _say(error, 1)
    except KeyboardInterrupt as stop:
        kept: dict[Command | None, str] = {data_fetch: "where the download stopped"}
        kept |= dict.fromkeys((fit, sweep, workbook, report), "from the last complete epoch")
        goes_on = f"; the same command goes on {kept[run]}" if run in kept else ""
        print(f"\npeftlab: interrupted{goes_on}", file=sys.stderr)
        return 128 + (stop.args[0] if isinstance(stop, _Stopped) else signal.SIGINT)


def _say(problem: object, status: int) -> int:
    """Print a problem in one line, whatever libraries have put into it. Returns the exit status."""
    print("peftlab:", " ".join(str(problem).split()), file=sys.stderr)
    return status
