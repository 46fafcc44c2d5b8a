"""What each command does. What it needs is imported when it runs, so that help and version come at once."""

import argparse
import contextlib
import shlex
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from ..common.errors import PeftlabError


def methods(args: argparse.Namespace) -> None:
    import pandas as pd

    from ..methods import METHODS, create_method
    from ..methods.core.describe import options, source

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

    from ..common.paths import data_root
    from ..tasks.load import about_task, available_tasks, task_group, task_names
    from ..tasks.synthetic.registry import SYNTHETIC

    root = data_root()
    there = available_tasks(root) if root else []
    rows = []
    for name in task_names():
        marks = ("yes" if name in there else "", "yes" if name in SYNTHETIC else "")
        rows.append((name, task_group(name), *marks, about_task(name)))
    print(pd.DataFrame(rows, columns=["task", "group", "on disk", "synthetic task", "about"]).to_string(index=False))
    print(f"\n'on disk' looks into PEFTLAB_DATA: {root or 'not set'}")


def backbones(args: argparse.Namespace) -> None:
    from ..backbones.load import EMBEDDED, load_backbone

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

    from ..backbones.protocols import PROTOCOLS

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
    from ..backbones.load import load_backbone
    from ..methods import attach, create_method
    from ..tasks.load import load_task
    from ..training.fit import fit

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
    from ..common.files import require_writable
    from ..results.tables import comparison_table
    from ..training.estimate import estimate
    from ..training.grid import read_grid
    from ..training.sweep import on_cluster, sweep

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
    from ..results.published import read_table
    from ..results.tables import comparison_table, cost_rows, final_runs, markdown, require_same_parameters

    table, costs = final_runs(read_table(args.table), args.table), None
    if args.costs:
        costs = cost_rows(read_table(args.costs), args.costs, table["label"].astype(str))
        require_same_parameters(table, args.table, costs, args.costs)
    print(markdown(comparison_table(table, costs=costs)))


def claims(args: argparse.Namespace) -> None:
    from ..analysis.claims import as_markdown, judge, read_claims

    claims = read_claims()
    print(as_markdown(claims, judge(claims)), end="")


def costs(args: argparse.Namespace) -> None:
    from ..analysis.costs import cost_card
    from ..backbones.load import load_backbone
    from ..training.grid import grid_methods, read_grid

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
    from ..results.ledger import read_ledger

    table = read_ledger(args.runs)
    if table.empty:
        print("the ledger is empty; fill it with: peftlab fit METHOD TASK")
    elif args.csv:
        table.to_csv(sys.stdout, index=False)
    else:
        columns = ["task", "synthetic", "method", "seed", "train_split", "parameters", "val_accuracy", "test_accuracy"]
        print(table.reindex(columns=[*columns, "seconds"]).to_string(index=False))


def data_fetch(args: argparse.Namespace) -> None:
    from ..tasks.mirrors.fetch import fetch

    print(fetch(args.mirror, args.to, url=args.url, sha256=args.sha256))


def data_audit(args: argparse.Namespace) -> int:
    from ..common.paths import data_root
    from ..tasks.audit import audit

    folder = args.folder or data_root()
    if folder is None:
        raise PeftlabError("nothing to audit: name a folder, or set PEFTLAB_DATA to a VTAB-1k folder")
    result = audit(folder)
    print(result)
    return 1 if result.problems else 0


def workbook(args: argparse.Namespace) -> int:
    from ..workbook.lessons import LESSONS
    from ..workbook.run import build_workbook

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
    from ..workbook.report import METHODS, build_report

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
    return say(f"{page}: the report's notebook failed ({error})", 1) if error else 0


def class_build(args: argparse.Namespace) -> None:
    from ..workbook.classroom import build_class

    build_class(args.folder, only=args.only, reports=args.reports, repository=args.repository)


def init(args: argparse.Namespace) -> None:
    from ..workbook.lessons import copy_lessons, lesson_folder

    folder = lesson_folder(args.folder)
    print(
        *copy_lessons(folder),
        f"the lessons are in {folder}; open them with: peftlab lab {shlex.quote(str(folder))}",
        sep="\n",
    )


def lab(args: argparse.Namespace) -> None:
    from ..workbook.lessons import copy_lessons, draw_data, lesson_folder, open_lab

    folder = lesson_folder(args.folder)
    print(*copy_lessons(folder), f"your copy of the lessons: {folder}", sep="\n", flush=True)
    draw_data()
    open_lab(folder)


def say(problem: object, status: int) -> int:
    """Print a problem in one line, whatever libraries have put into it. Returns the exit status."""
    print("peftlab:", " ".join(str(problem).split()), file=sys.stderr)
    return status
