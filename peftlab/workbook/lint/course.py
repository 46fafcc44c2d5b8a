"""Rules that make a notebook a lesson: headings in order, predictions before results, exercises with their minutes."""

import re
from collections.abc import Iterator

from nbformat import NotebookNode

from .prose import without_code

UNNUMBERED = ("Summary", "References")
MAX_WORDS, MIN_SLIDES = 200, 4
EFFORT = re.compile(r"\*(Easy|Medium|Hard), (\d+) minutes?\.\*")
_EXERCISE = re.compile(r"^### (?:Exercise|Build) (\d+):.*\n+(.*)", re.M)


def course_problems(nb: NotebookNode) -> list[str]:
    """Every rule of this module that the notebook breaks, in words."""
    return [
        *heading_problems(nb),
        *prediction_problems(nb),
        *exercise_problems(nb),
        *length_problems(nb),
        *slide_problems(nb),
    ]


def _markdown(nb: NotebookNode) -> Iterator[tuple[int, str]]:
    """(position, text without code) of each Markdown cell."""
    return ((n, without_code(c.source)) for n, c in enumerate(nb.cells) if c.cell_type == "markdown")


def heading_problems(nb: NotebookNode) -> list[str]:
    """Levels without a jump; sections numbered from 1, but for those at the end."""
    found, level, number = [], 1, 0  # the title is prose_problems' affair
    for cell, text in _markdown(nb):
        for marks, words in re.findall(r"^(#+) (.+)", text, re.M):
            if len(marks) > level + 1:
                found.append(f"cell {cell}: heading {words!r} jumps from level {level} to {len(marks)}")
            level = len(marks)
            if level == 2 and words not in UNNUMBERED:
                number += 1
                if not words.startswith(f"{number} "):
                    found.append(f"cell {cell}: section {words!r}, expected `## {number} ...`")
    return found


def prediction_problems(nb: NotebookNode) -> list[str]:
    """A prediction ends its cell, before the code that answers it; each section that shows a picture has one."""
    found, section, predicted, shows = [], "", True, False
    for n, cell in enumerate([*nb.cells, None]):
        text = cell.source if cell and cell.cell_type == "markdown" else ""
        heading = re.search(r"^## (.+)", text, re.M)
        if cell is None or heading:
            if section and shows and not predicted:
                found.append(f"section {section!r} shows a picture, and nobody was asked to **Predict** anything")
            section, predicted, shows = heading[1] if heading else "", False, False
        if "> **Predict**" in text:
            predicted = True
            if not text.rstrip().rpartition("\n\n")[2].startswith("> **Predict**"):
                found.append(f"cell {n}: a prediction ends its cell, so that the result does not stand before it")
            elif n + 1 == len(nb.cells) or nb.cells[n + 1].cell_type != "code":
                found.append(f"cell {n}: after a prediction comes the code that answers it")
        shows = shows or bool(cell and cell.cell_type == "code" and "views.show(" in cell.source)
    return found


def exercise_problems(nb: NotebookNode) -> list[str]:
    """Exercises numbered from 1 in order, with difficulty and minutes, which fit into the lesson's time."""
    found, numbers, minutes = [], [], 0
    for cell, text in _markdown(nb):
        for number, line in _EXERCISE.findall(text):
            numbers.append(int(number))
            if effort := EFFORT.match(line):
                minutes += int(effort[2])
            else:
                found.append(f"cell {cell}: exercise {number} begins without `*Easy, 3 minutes.*` (or Medium, Hard)")
    checked = re.findall(r'check\("\w+\.(\d+)"', "\n".join(c.source for c in nb.cells if c.cell_type == "code"))
    if numbers != list(range(1, len(numbers) + 1)) or [int(n) for n in checked] != numbers:
        found.append(f"exercises are headed {numbers} and checked {checked}; expected 1, 2, 3 ... for both")
    budget = re.search(r"\*\*Time budget[.:]*\*\*\D*(\d+) minutes", "".join(text for _, text in _markdown(nb)))
    if budget and minutes > int(budget[1]):
        found.append(f"exercises take {minutes} minutes, and the time budget is {budget[1]}")
    return found


def length_problems(nb: NotebookNode) -> list[str]:
    """Prose in cells of a length that one reads; what is folded is counted by itself."""
    found = []
    for cell, text in _markdown(nb):
        parts = re.split(r"(<details>.*?</details>)", text, flags=re.S)  # open and folded ones in turn
        for words in (len(part.split()) for part in ["".join(parts[::2]), *parts[1::2]]):
            if words > MAX_WORDS:
                found.append(f"cell {cell}: {words} words of prose, at most {MAX_WORDS}")
    return found


def slide_problems(nb: NotebookNode) -> list[str]:
    """Enough slides for the projector; the first of them before what is added to one."""
    kinds = [c.metadata.get("slideshow", {}).get("slide_type", "") for c in nb.cells]
    found = []
    if kinds.count("slide") < MIN_SLIDES:
        found.append(f"{kinds.count('slide')} cells begin a slide, at least {MIN_SLIDES}")
    if (first := next(filter(None, kinds), "slide")) != "slide":
        found.append(f"the first cell for slides is a {first!r}; it must begin a slide")
    return found
