"""House rules over the workbook's notebooks, and each rule seen to fire on a notebook broken on purpose."""

import copy
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from peftlab.common.paths import REPOSITORY
from peftlab.workbook.lint import problems
from peftlab.workbook.lint.__main__ import main
from peftlab.workbook.lint.cleanliness import CHECKED, KERNELSPEC

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


def test_the_workbook_has_its_notebooks():
    assert len(NOTEBOOKS) >= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_keeps_the_house_rules(path):
    assert problems(path) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_lesson_that_prose_names_is_a_link_to_it(path):
    """Code blocks aside. JupyterLab opens it; pages and slides have links of their own."""
    prose = "\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown")
    named = re.findall(r"`(\d\d_\w+)`", prose)
    assert named == [name for name, file in re.findall(r"\[`(\d\d_\w+)`\]\((\w+)\.ipynb\)", prose) if name == file]
    assert {f"{name}.ipynb" for name in named} <= {other.name for other in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_what_nbval_skips_uses_no_answer(path):
    """Papermill has run these cells, but without the solutions."""
    cells = nbformat.read(path, as_version=4).cells
    skipped = [cell.source for cell in cells if "nbval-skip" in cell.metadata.get("tags", ())]
    assert not [source for source in skipped if re.search(r"\b(answer|check)\b", source)]


# --- the linter itself -----------------------------------------------------------------------------------------------

PARAMETERS = 'profile = "fast"  # or "full"\nbackbone = "mini"\ntask: str = "dsprites_ori"\ndata_root = None\nseed = 0'
OPENING = r"""# 03 A clean one

**Objectives.** See $\frac{\alpha}{r}BA$.

**Time budget:** 10 minutes."""
END = r"""## Summary

Done. `$\nomath$` is code.

## References

- [LoRA](https://arxiv.org/abs/2106.09685)"""


SLIDE, FRAGMENT = ({"slideshow": {"slide_type": kind}} for kind in ("slide", "fragment"))


def exercise(number):
    """The question and the cell to answer it."""
    text = f"### Exercise {number}: count\n\n*Easy, 2 minutes.* How many?"
    return [new_markdown_cell(text), new_code_cell(f'%matplotlib inline\npl.check("lora.{number}", {number})')]


def clean_notebook():
    """No problems: 0 prose, 1 parameters, 2 prediction, 3 picture, 4 checked by nbval, then exercises and the end."""
    output = new_output("stream", text="2\n")
    cells = [
        new_markdown_cell(OPENING, metadata=SLIDE),
        new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        new_markdown_cell("## 1 Pictures\n\nA line.\n\n> **Predict**: will it rise?", metadata=SLIDE),
        new_code_cell("pl.views.show(figure, 'It rises.')", metadata=SLIDE),
        new_code_cell(f"{CHECKED}\nprint(2)", outputs=[output], execution_count=5),
        *exercise(1),
        *exercise(2),
        *exercise(3),
        new_markdown_cell(END, metadata=SLIDE),
    ]
    metadata = {"kernelspec": KERNELSPEC, "language_info": {"name": "python"}}
    return new_notebook(cells=copy.deepcopy(cells), metadata=metadata)


def lint(nb, folder, name="03_clean.ipynb"):
    path = folder / name
    path.write_text(nbformat.writes(nb), encoding="utf-8")
    return problems(path)


def test_a_clean_notebook_has_no_problem(tmp_path):
    assert lint(clean_notebook(), tmp_path) == []


def replace(cell, old, new):
    return lambda nb: nb.cells[cell].update(source=nb.cells[cell].source.replace(old, new))


def append(cell):
    return lambda nb: nb.cells.append(cell)


LONG_DEF = "def long():\n" + "    pass\n" * 12
BROKEN = {
    "no parameters cell": (lambda nb: nb.cells.pop(1), "0 cells carry the tag 'parameters'"),
    "two parameters cells": (append(new_code_cell("", metadata={"tags": ["parameters"]})), "2 cells carry"),
    "computed parameter": (replace(1, "seed = 0", "seed = int('0')"), "seed is not a literal"),
    "parameter by call": (replace(1, "seed = 0", "print(0)"), "line 5 is not an assignment"),
    "parameter missing": (replace(1, "seed = 0", ""), "must set exactly"),
    "parameter too many": (replace(1, "seed = 0", "seed = 0\nrank = 8"), "must set exactly"),
    "long cell": (append(new_code_cell("x = 1\n" * 26)), "26 lines of code, at most 25"),
    "long median": (lambda nb: [append(new_code_cell("x = 1\n" * 9))(nb) for _ in range(7)], "median code cell has 9"),
    "long def": (append(new_code_cell(LONG_DEF)), "`def long` has 13 lines"),
    "long method under a cell magic": (append(new_code_cell("%%budget 30s\n" + LONG_DEF)), "`def long` has 13 lines"),
    "syntax error": (append(new_code_cell("x = = 1")), "cell 12: not Python"),
    "mute axes": (
        append(new_code_cell("fig, ax = plt.subplots()\nax.plot(x)")),
        "cell 12: a picture without",
    ),
    "mute view": (append(new_code_cell("pl.views.costs(card);")), "cell 12: a picture without"),
    "few exercises": (lambda nb: nb.cells.__delitem__(slice(9, 11)), "2 check(...) exercises"),
    "no objectives": (replace(0, "Objectives", "Aims"), "no heading or bold word for: objectives"),
    "no time budget": (replace(0, "Time budget", "Long"), "no heading or bold word for: time budget"),
    "no summary": (replace(11, "## Summary", "The end"), "no heading or bold word for: summary"),
    "no references": (replace(11, "## References", ""), "no heading or bold word for: references"),
    "wrong number": (replace(0, "# 03", "# 04"), "must open with a title `# 03"),
    "no title": (replace(0, "# 03 ", ""), "must open with a title"),
    "endless title": (replace(0, "A clean one", "A clean one " * 9), "at most 70 characters"),
    "picture": (append(new_markdown_cell("![x](https://x.example/a.png)")), "network: https://x.example/a.png"),
    "picture in HTML": (append(new_markdown_cell('<img src="//x.example/a.png">')), "network: //x.example/a.png"),
    "formula": (append(new_markdown_cell(r"$$ a\nosuchmacro b $$")), r"because of \nosuchmacro"),
    "heading that jumps": (append(new_markdown_cell("#### Deep")), "'Deep' jumps from level 2 to 4"),
    "section out of order": (replace(2, "## 1", "## 2"), "expected `## 1 ...`"),
    "nothing predicted": (replace(2, "> **Predict**: will it rise?", ""), "nobody was asked to **Predict**"),
    "result before prediction": (
        replace(2, "> **Predict**: will it rise?", "> **Predict**: will it?\n\nIt will."),
        "cell 2: a prediction ends its cell",
    ),
    "prediction of nothing": (append(new_markdown_cell("> **Predict**: what comes?")), "comes the code that answers"),
    "exercise without minutes": (replace(5, "*Easy, 2 minutes.* ", ""), "cell 5: exercise 1 begins without"),
    "exercises out of order": (replace(5, "Exercise 1", "Exercise 2"), "headed [2, 2, 3] and checked ['1', '2', '3']"),
    "long exercises": (replace(5, "2 minutes", "7 minutes"), "take 11 minutes, and the time budget is 10"),
    "long prose": (append(new_markdown_cell("word " * 201)), "201 words of prose"),
    "long folded prose": (append(new_markdown_cell(f"<details>{'word ' * 201}</details>")), "words of prose"),
    "few slides": (lambda nb: nb.cells[3].metadata.clear(), "3 cells begin a slide"),
    "slide in the air": (
        lambda nb: (nb.cells[0].metadata.update(FRAGMENT), nb.cells[4].metadata.update(SLIDE)),
        "it must begin a slide",
    ),
    "stored output": (
        lambda nb: nb.cells[3].update(outputs=[new_output("stream", text="x")]),
        "cell 3: stored output",
    ),
    "stored count": (lambda nb: nb.cells[3].update(execution_count=1), "cell 3: stored output or count"),
    "unrun checked cell": (lambda nb: nb.cells[4].update(execution_count=None), "nbval would compare nothing"),
    "empty checked cell": (lambda nb: nb.cells[4].update(outputs=[]), "nbval would compare nothing"),
    "widget state": (lambda nb: nb.metadata.update(widgets={}), "notebook metadata widgets"),
    "papermill": (lambda nb: nb.metadata.update(papermill={}), "notebook metadata papermill"),
    "papermill in a cell": (lambda nb: nb.cells[3].metadata.update(papermill={}), "cell 3: metadata papermill"),
    "own kernel": (lambda nb: nb.metadata.kernelspec.update(name="venv"), "kernelspec must be"),
    "named kernel": (lambda nb: nb.metadata.kernelspec.update(display_name="venv"), "kernelspec must be"),
    "python version": (lambda nb: nb.metadata.language_info.update(version="3.11"), "one machine's Python version"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_rule_fires(name, tmp_path):
    nb = clean_notebook()
    breaking, message = BROKEN[name]
    breaking(nb)
    found = lint(nb, tmp_path)
    assert len(found) == 1 and message in found[0], found


def test_a_wrong_file_name_and_a_damaged_file_are_problems(tmp_path):
    assert "NN_words" in lint(clean_notebook(), tmp_path, "clean.ipynb")[0]
    (tmp_path / "04_x.ipynb").write_text("{")
    assert "not a valid notebook" in problems(tmp_path / "04_x.ipynb")[0]


def test_a_cell_meant_to_fail_need_not_be_python(tmp_path):
    nb = clean_notebook()
    nb.cells.append(new_code_cell("x = = 1", metadata={"tags": ["raises-exception"]}))
    assert lint(nb, tmp_path) == []


def test_clean_fixes_what_an_editor_leaves_and_keeps_what_nbval_compares(tmp_path, capsys):
    nb = clean_notebook()
    dirty = ["stored output", "stored count", "widget state", "papermill", "papermill in a cell", "own kernel"]
    for name in [*dirty, "python version"]:
        BROKEN[name][0](nb)
    assert len(lint(nb, tmp_path)) == 5
    assert main([str(tmp_path)]) == 1
    assert "03_clean.ipynb: cell 3" in capsys.readouterr().out
    assert main(["--clean", str(tmp_path)]) == 0
    fixed = nbformat.read(tmp_path / "03_clean.ipynb", 4)
    assert fixed.cells[4].outputs and fixed.cells[4].execution_count == 5
    assert fixed.cells[1].metadata.tags == ["parameters"]
    assert capsys.readouterr().out.endswith("cleaned\n")
    assert main(["--clean", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "", "a clean file is not written again"


def test_prefix_of_notebooks_is_unique():
    numbers = [p.name[:2] for p in NOTEBOOKS]
    assert len(set(numbers)) == len(numbers)
