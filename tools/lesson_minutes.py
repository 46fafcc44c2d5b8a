"""Make docs/course/exercises.md and minutes.md: what the lessons ask of a reader, and how long it takes.

    PEFTLAB_RUNS=$(mktemp -d) peftlab workbook --out reports && python tools/lesson_minutes.py --reports reports

Measured: the seconds that each cell took in the executed notebooks of `--reports` (with an empty folder of runs, as a
training that the ledger has takes no time). Estimated: reading, from the words of the prose; looking, from the number
of figures; exercises, from the minutes that each one states. Without `--reports` only exercises.md is written.
"""

import argparse
import ast
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from peftlab.common.files import write_text
from peftlab.common.paths import REPOSITORY
from peftlab.workbook.classroom.questions import find_questions
from peftlab.workbook.lint.course import EFFORT

NOTEBOOKS, COURSE = REPOSITORY / "notebooks", REPOSITORY / "docs" / "course"
WORDS_A_MINUTE, FIGURE_MINUTES, VIEW_MINUTES = 130, 1, 3
_FOLDED = re.compile(r"<details>.*?</details>", re.S)
_EXERCISE = re.compile(r"^###+ (?:Exercise|Build) \d+: (.+)$", re.M)
_INTERACTIVE = re.compile(r"\b(explore|walk|inside\.\w+)\(")


def lessons(folder: Path) -> dict[str, NotebookNode]:
    """{name of the lesson: notebook} of a folder, in order."""
    return {file.stem: nbformat.read(file, as_version=4) for file in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}


def sections(nb: NotebookNode) -> dict[str, list[NotebookNode]]:
    """{heading: its cells}; what comes before the first `##` is "Start". A cell may hold the end of one section."""
    found: dict[str, list[NotebookNode]] = {"Start": []}
    for cell in nb.cells:
        if cell.cell_type != "markdown":
            found[next(reversed(found))].append(cell)
            continue
        before, *rest = re.split(r"^## ", cell.source, flags=re.M)
        pieces = [(None, before), *((piece.partition("\n")[0].strip(), piece) for piece in rest)]
        for heading, text in pieces:
            if heading is not None:
                found[heading] = []
            if text.strip():
                found[next(reversed(found))].append(nbformat.v4.new_markdown_cell(text))
    found.pop("References", None)
    return found


def words(cells: list[NotebookNode]) -> int:
    """Words of the prose that is not folded away; a formula counts as one word, code in blocks not at all."""
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    text = re.sub(r"```.*?```", "", _FOLDED.sub("", text), flags=re.S)
    text = re.sub(r"\$\$?[^$]+\$\$?", " formula ", text)
    return len(re.findall(r"[^\W_][\w'.-]*", text))


@dataclass(frozen=True)
class Task:
    """An exercise or a build, as a lesson states it."""

    name: str
    lesson: str
    does: str
    kind: str
    difficulty: str
    minutes: int | None


def kind(solution: str) -> str:
    """What an answer is, read off a solution: number, choice, function or class.

    >>> kind("answer = 14 * 14 + 2"), kind("answer = lambda p: p"), kind('answer = "val200"')
    ('number', 'function', 'choice')
    """
    tree = ast.parse(solution)
    defined = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)}
    value: ast.AST = next(iter(defined.values()), tree)
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "answer":
            value = defined.get(ast.unparse(node.value), node.value)
    if isinstance(value, ast.ClassDef):
        return "class"
    if isinstance(value, ast.FunctionDef | ast.Lambda):
        return "function"
    leaves = value.values if isinstance(value, ast.Dict) else [value]
    names = all(isinstance(leaf, ast.Constant) and isinstance(leaf.value, bool | str) for leaf in leaves)
    return "choice" if names else "number"


def tasks(lesson: str, nb: NotebookNode) -> list[Task]:
    """Every exercise of a notebook. Raises StopIteration for one without the heading that all of them have."""
    found = []
    for question in find_questions(nb, lesson):
        above = [cell.source for cell in nb.cells[: question.stub] if cell.cell_type == "markdown"]
        *_, heading = _EXERCISE.finditer(next(text for text in reversed(above) if _EXERCISE.search(text)))
        effort = EFFORT.match(heading.string[heading.end() :].lstrip())
        difficulty, minutes = (effort[1].lower(), int(effort[2])) if effort else ("not said", None)
        found.append(Task(question.name, lesson, heading[1].strip(), kind(question.solution), difficulty, minutes))
    return found


EXERCISES_ABOUT = """# Exercises and builds

Made by `python tools/lesson_minutes.py` from the notebooks; do not edit.

`pl.check(id, answer)` checks an answer, and `pl.check(id, answer, hint=True)` says first how to begin. *Number*: one
computes a number. *Choice*: one chooses an answer. *Function*, *class*: one writes it, and it is tried beside the
package's own. Minutes are estimates for a student who has read the lesson; no class has been timed yet.

{count} exercises and builds, {minutes} minutes together.

| id | lesson | what one does | kind | difficulty | minutes |
|---|---|---|---|---|---:|"""


def exercises_page(books: dict[str, NotebookNode]) -> str:
    """docs/course/exercises.md: a row for each exercise and build."""
    every = [task for lesson, nb in books.items() for task in tasks(lesson, nb)]
    minutes = sum(task.minutes or 0 for task in every)
    rows = [
        f"| `{t.name}` | `{t.lesson}` | {t.does} | {t.kind} | {t.difficulty} | {t.minutes or 'not said'} |"
        for t in every
    ]
    return "\n".join([EXERCISES_ABOUT.format(count=len(every), minutes=minutes), *rows, ""])


def seconds(cells: list[NotebookNode]) -> float:
    """What cells of an executed notebook took together."""
    return sum(cell.metadata.get("papermill", {}).get("duration") or 0 for cell in cells)


@dataclass(frozen=True)
class Part:
    """One section of a lesson: what there is to read, to look at, to solve and to wait for."""

    words: int
    figures: int
    views: int
    exercises: int
    seconds: float

    def __add__(self, other: "Part") -> "Part":
        return Part(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @property
    def minutes(self) -> float:
        looking = self.figures * FIGURE_MINUTES + self.views * VIEW_MINUTES
        return self.words / WORDS_A_MINUTE + looking + self.exercises + self.seconds / 60


def part(cells: list[NotebookNode], efforts: dict[str, int]) -> Part:
    """efforts: {id of an exercise: its minutes}."""
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    shown = [source for source in code if re.search(r"\b(views\.show|explore)\(", source)]
    views = sum(bool(_INTERACTIVE.search(source)) for source in shown)
    asked = sum(minutes for name, minutes in efforts.items() if f'check("{name}"' in "\n".join(code))
    return Part(words(cells), len(shown) - views, views, asked, seconds(cells))


def lesson_parts(lesson: str, executed: NotebookNode) -> dict[str, Part]:
    """{section: what it takes} of an executed lesson."""
    efforts = {task.name: task.minutes or 0 for task in tasks(lesson, executed)}
    return {heading: part(cells, efforts) for heading, cells in sections(executed).items()}


def row(heading: str, p: Part) -> str:
    reading, looking = p.words / WORDS_A_MINUTE, p.figures * FIGURE_MINUTES + p.views * VIEW_MINUTES
    return f"| {heading} | {reading:.1f} | {looking or ''} | {p.exercises or ''} | {p.seconds:.0f} | {p.minutes:.0f} |"


ABOUT = f"""# Minutes by section

Made by `python tools/lesson_minutes.py --reports reports` from the notebooks and from an executed build; do not edit.

**Measured:** the seconds that the cells of a section took (papermill's durations, profile `fast`, an empty folder of
runs; the first cell of a lesson also loads the libraries). On a machine that is busy they are several times larger.
**Estimated:** everything else. Reading: the words of the prose without folded solutions, {WORDS_A_MINUTE} a minute,
which is slow on purpose: technical text in what may be a second language. Code is not counted. Looking:
{FIGURE_MINUTES} minute a figure, {VIEW_MINUTES} minutes an interactive view. Exercises: the minutes that each states.
No class has been timed yet: expect to be off by a third, and write down what you measure.

*Budget* is the number in the lesson's first cell and on the start page.
"""


def minutes_page(executed: dict[str, NotebookNode]) -> str:
    """docs/course/minutes.md: a summary, then a table for each lesson."""
    head = "| {} | reading (min) | looking (min) | exercises (min) | computing (s) | together (min) |{}"
    rule = "|---|---:|---:|---:|---:|---:|"
    summary, details = [head.format("lesson", " budget |"), rule + "---:|"], []
    for lesson, nb in executed.items():
        parts = lesson_parts(lesson, nb)
        budget = re.search(r"Time budget\W+(\d+) minutes", nb.cells[0].source)
        total = sum(parts.values(), Part(0, 0, 0, 0, 0.0))
        summary.append(f"{row(f'`{lesson}`', total)} {budget[1] if budget else ''} |")
        details += ["", f"## `{lesson}`", "", head.format("section", ""), rule]
        details += [row(heading, each) for heading, each in parts.items()]
    return "\n".join([ABOUT, *summary, *details, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--reports", type=Path, help="the folder that `peftlab workbook --out` filled")
    options = parser.parse_args()
    write_text(COURSE / "exercises.md", exercises_page(lessons(NOTEBOOKS)))
    if options.reports:
        write_text(COURSE / "minutes.md", minutes_page(lessons(options.reports)))


if __name__ == "__main__":
    main()
