"""Rules about a notebook's code: its parameters, cells short enough for a projector, pictures with a sentence."""

import ast
import re
import statistics
from typing import Any

from nbformat import NotebookNode

from ..page.cells import tags

PARAMETERS = ("profile", "backbone", "task", "data_root", "seed")
MEDIAN_LINES, MAX_LINES, MAX_DEF_LINES, MIN_CHECKS = 8, 25, 12, 3


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
