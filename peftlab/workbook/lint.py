"""The workbook's house rules for notebooks, as a list of problems; and the cleaner that fixes what can be fixed.

    python -m peftlab.workbook.lint notebooks/            # list the problems, exit 1 if there are any
    python -m peftlab.workbook.lint --clean notebooks/    # strip outputs, counts and editors' metadata first

nbstripout (0.9) is not used: it keeps the execution counts of all cells or of none, and nbval takes a checked cell
without a count for "unrun" and compares nothing; and it keeps outputs by a cell's metadata, not by nbval's comment.
"""

import argparse
import ast
import re
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from ..common.files import write_text
from .math import unknown_math
from .page import tags, title

PARAMETERS = ("profile", "backbone", "task", "data_root", "seed")
CHECKED = "# NBVAL_CHECK_OUTPUT"
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
DISPLAY_NAMES = {"Python 3", "Python 3 (ipykernel)"}  # JupyterLab writes the second on each save
CELL_METADATA = {"tags", "slideshow", "jupyter"}
MEDIAN_LINES, MAX_LINES, MAX_DEF_LINES, MIN_CHECKS, MAX_TITLE = 8, 25, 12, 3, 70
SECTIONS = {"objectives": "objectives?", "time budget": "time", "summary": "summary", "references": "references?"}


def literal_parameters(source: str) -> dict[str, Any]:
    """{name: value} of a cell made of `name = literal` lines. Raises ValueError on anything else.

    >>> literal_parameters('profile = "fast"; seed: int = 0')
    {'profile': 'fast', 'seed': 0}
    """
    values = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign):
            targets: list[ast.expr] = [node.target]
        elif isinstance(node, ast.Assign):
            targets = node.targets
        else:
            raise ValueError(f"line {node.lineno} is not an assignment")
        if len(targets) != 1 or not isinstance(targets[0], ast.Name) or node.value is None:
            raise ValueError(f"line {node.lineno} is not `name = literal`")
        try:
            values[targets[0].id] = ast.literal_eval(node.value)
        except ValueError:
            raise ValueError(f"{targets[0].id} is not a literal") from None
    return values


def parameter_problems(nb: NotebookNode) -> tuple[list[str], dict[str, Any]]:
    """-> (problems, values): exactly one tagged cell, literals only, exactly the workbook's names."""
    cells = [c for c in nb.cells if "parameters" in tags(c)]
    if len(cells) != 1:
        return [f"{len(cells)} cells carry the tag 'parameters'; exactly one must"], {}
    try:
        values = literal_parameters(cells[0].source)
    except (ValueError, SyntaxError) as error:
        return [f"parameters cell: {error}"], {}
    if set(values) != set(PARAMETERS):
        return [f"parameters cell sets {', '.join(values)}; it must set exactly {', '.join(PARAMETERS)}"], values
    return [], values


def _without_magics(source: str) -> str:
    """The Python in a cell: `%magic` and `!shell` lines become `pass`, line numbers stay."""
    source = re.sub(r"\A\s*%%.*", "pass", source)
    return re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M)


_DRAWS = re.compile(r"\bplt\.(subplots|figure)\(|;\s*\Z")
_SAYS = re.compile(r"\b(show|explore|check)\(")


def figure_problems(nb: NotebookNode) -> list[str]:
    """Pictures without a sentence of their own: cells that draw, and neither `show` nor `explore` what they drew."""
    drawing = ((n, c) for n, c in enumerate(nb.cells) if c.cell_type == "code" and _DRAWS.search(c.source))
    return [
        f"cell {n}: a picture without a sentence; end in pl.views.show(figure, 'what is to be seen.')"
        for n, c in drawing
        if not _SAYS.search(c.source)
    ]


def code_problems(nb: NotebookNode) -> list[str]:
    """Cells and functions short enough to read on a projector; enough exercises."""
    found, lengths, checks = [], [], 0
    for number, cell in enumerate(nb.cells):
        if cell.cell_type != "code":
            continue
        lengths.append(len(cell.source.strip().splitlines()))
        if lengths[-1] > MAX_LINES:
            found.append(f"cell {number}: {lengths[-1]} lines of code, at most {MAX_LINES}")
        try:
            tree = ast.parse(_without_magics(cell.source))
        except SyntaxError as error:
            if "raises-exception" not in tags(cell):
                found.append(f"cell {number}: not Python ({error.msg}, line {error.lineno})")
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_DEF_LINES:
                    found.append(
                        f"cell {number}: `def {node.name}` has {length} lines, at most {MAX_DEF_LINES}; "
                        "move it into the package"
                    )
            elif isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", None))
                checks += name == "check"
    if lengths and statistics.median(lengths) > MEDIAN_LINES:
        found.append(f"median code cell has {statistics.median(lengths):g} lines, at most {MEDIAN_LINES}")
    if checks < MIN_CHECKS:
        found.append(f"{checks} check(...) exercises, at least {MIN_CHECKS}")
    return found


def _prose(nb: NotebookNode) -> str:
    """The notebook's Markdown without its code spans and blocks."""
    text = "\n\n".join(c.source for c in nb.cells if c.cell_type == "markdown")
    return re.sub(r"^(```|~~~).*?^\1|(`+)[^`].*?\2", "", text, flags=re.M | re.S)


def prose_problems(nb: NotebookNode, number: str) -> list[str]:
    """Title, the four sections that every notebook has, pictures and formulas that show offline."""
    found, prose = [], _prose(nb)
    first = nb.cells[0].source if nb.cells and nb.cells[0].cell_type == "markdown" else ""
    if not re.match(rf"# {number} \S", first) or len(title(nb)) > MAX_TITLE:
        found.append(f"the first cell must open with a title `# {number} ...` of at most {MAX_TITLE} characters")
    for section, pattern in SECTIONS.items():
        if not re.search(rf"^\s*(?:#+|[-*>]?\s*\*\*).*\b{pattern}\b", prose, re.M | re.I):
            found.append(f"no heading or bold word for: {section}")
    for url in re.findall(
        r"!\[[^\]]*\]\(\s*<?((?:https?:)?//[^)\s]*)|<img[^>]*src=[\"']?((?:https?:)?//[^\"'\s>]*)", prose
    ):
        found.append(f"picture from the network: {''.join(url)}")
    for block, inline in re.findall(r"(?<!\\)\$\$(.+?)\$\$|(?<![\\$])\$(?!\$)(.+?)(?<!\\)\$", prose, re.S):
        if unknown := unknown_math(block or inline):
            found.append(
                f"formula that cannot be shown offline, because of {unknown}: {(block or inline).strip()[:80]}"
            )
    return found


def _generic_kernel(nb: NotebookNode) -> bool:
    spec = dict(nb.metadata.get("kernelspec", {}))
    return spec.get("display_name") in DISPLAY_NAMES and spec | {"display_name": ""} == KERNELSPEC | {
        "display_name": ""
    }


def cleanliness_problems(nb: NotebookNode) -> list[str]:
    """No outputs but the ones that nbval compares, and nothing that an editor or papermill left behind."""
    found = []
    for number, cell in enumerate(nb.cells):
        if extra := sorted(set(cell.metadata) - CELL_METADATA):
            found.append(f"cell {number}: metadata {', '.join(extra)}")
        if cell.cell_type != "code":
            continue
        if CHECKED in cell.source:
            if not cell.outputs or cell.execution_count is None:
                found.append(f"cell {number}: {CHECKED} without stored output and count; nbval would compare nothing")
        elif cell.outputs or cell.execution_count is not None:
            found.append(f"cell {number}: stored output or count without {CHECKED}")
    if extra := sorted(set(nb.metadata) - {"kernelspec", "language_info"}):
        found.append(f"notebook metadata {', '.join(extra)}")
    if not _generic_kernel(nb):
        found.append(f"kernelspec must be {KERNELSPEC}")
    if dict(nb.metadata.get("language_info", {"name": "python"})) != {"name": "python"}:
        found.append("language_info holds one machine's Python version")
    return found


def problems(path: str | Path) -> list[str]:
    """Every house rule that the notebook breaks, in words; an empty list is a clean notebook."""
    path = Path(path)
    number = re.match(r"(\d\d)_\w+\.ipynb$", path.name)
    if not number:
        return ["the file must be named NN_words.ipynb"]
    try:
        nb = nbformat.read(path, as_version=4)
        nbformat.validate(nb)
    except (ValueError, nbformat.ValidationError) as error:
        return [f"not a valid notebook: {str(error).splitlines()[0]}"]
    return (
        parameter_problems(nb)[0]
        + code_problems(nb)
        + figure_problems(nb)
        + prose_problems(nb, number[1])
        + cleanliness_problems(nb)
    )


def clean(nb: NotebookNode) -> NotebookNode:
    """Strip in place what `cleanliness_problems` complains about. Checked cells keep output and count."""
    kernelspec = nb.metadata.kernelspec if _generic_kernel(nb) else KERNELSPEC
    nb.metadata = nbformat.from_dict({"kernelspec": kernelspec, "language_info": {"name": "python"}})
    for cell in nb.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k in CELL_METADATA})
        if cell.cell_type == "code" and CHECKED not in cell.source:
            cell.outputs, cell.execution_count = [], None
    return nb


def clean_file(path: Path) -> bool:
    """Clean a notebook file. Returns True if it changed."""
    before = path.read_text(encoding="utf-8")
    after = nbformat.writes(clean(nbformat.reads(before, as_version=4))).rstrip("\n") + "\n"
    if after != before:
        write_text(path, after)
    return after != before


def main(arguments: Sequence[str] | None = None) -> int:
    """List the problems of the named notebooks and folders -> exit status, 1 if there are any."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m peftlab.workbook.lint", description=summary)
    parser.add_argument("paths", nargs="+", type=Path, help="notebooks, or folders of them")
    parser.add_argument("--clean", action="store_true", help="fix first what can be fixed")
    options = parser.parse_args(arguments)
    found = 0
    for path in [p for given in options.paths for p in (sorted(given.glob("*.ipynb")) if given.is_dir() else [given])]:
        if options.clean and clean_file(path):
            print(f"{path}: cleaned")
        for problem in problems(path):
            print(f"{path}: {problem}")
            found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
