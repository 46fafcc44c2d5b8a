"""The class from one source: no student's copy has a solution, every instructor's copy is right, nothing is lost."""

import ast
import contextlib
import doctest
import importlib.util
import io
import json
import math
import os
import re
import subprocess
import sys

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from faults import STOPS, stopped_everywhere
from IPython.core.inputtransformer2 import TransformerManager
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from torch import nn

from peftlab.common import files
from peftlab.common.errors import PeftlabError
from peftlab.methods import METHODS
from peftlab.workbook.classroom import build, build_class
from peftlab.workbook.classroom.copies import instructor_copy, student_copy
from peftlab.workbook.classroom.grading import grading_test
from peftlab.workbook.classroom.questions import find_questions
from peftlab.workbook.classroom.routes import add_install_cell
from peftlab.workbook.classroom.written import read_written, refuse_others, write_files
from peftlab.workbook.exercises import EXERCISES, check
from peftlab.workbook.lessons import LESSONS
from peftlab.workbook.run import PageResult, find_notebooks

NOTEBOOKS = find_notebooks(LESSONS)
CODE = {"np": np, "math": math, "torch": torch, "nn": nn, "F": F}  # as notebooks import it
UNANSWERED = re.compile(r"[=:]\s*\.\.\.\s*(?=[,}#\n]|$)|return \.\.\.|NotImplementedError")
PARAMETERS = 'profile = "fast"\nbackbone = "mini"\ntask = "dsprites_ori"\ndata_root = None\nseed = 0'


def exercise(name, stub, solution, after=""):
    details = f"<details><summary>Solution</summary>\n\n```python\n{solution}\n```\n\n</details>\n\n{after}"
    return [new_code_cell(f'{stub}\n\npl.check("{name}", answer);'), new_markdown_cell(details.strip())]


RIGHT = {"tour.1": "answer = 1930", "tasks.3": 'answer = "val200"', "tasks.2": "def answer(x):\n    return x // 2"}


def lesson(**solutions):
    """A short lesson with the named exercises, `tour_1=...`, and one slide."""
    cells = [
        new_markdown_cell("# 00 One\n\n- a point", metadata={"slideshow": {"slide_type": "slide"}}),
        new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        new_code_cell("import peftlab as pl"),
        new_markdown_cell("A word to the class.", metadata={"slideshow": {"slide_type": "notes"}}),
        new_code_cell(
            "# NBVAL_CHECK_OUTPUT\nprint(1)",
            execution_count=1,
            outputs=[new_output("stream", name="stdout", text="1\n")],
            metadata={"tags": ["slide-code", "thumbnail"]},
        ),
    ]
    for name, solution in solutions.items():
        cells += exercise(name.replace("_", "."), "answer = ...  # a number", solution, "More to read.")
    kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernelspec})


def three():
    return lesson(**{name.replace(".", "_"): solution for name, solution in RIGHT.items()})


@pytest.fixture
def lessons(tmp_path):
    """A folder of two lessons with their start page, beside the folder of the same lessons as they ran."""
    folder, reports = tmp_path / "lessons", tmp_path / "reports"
    folder.mkdir()
    reports.mkdir()
    (folder / "start.md").write_text("# Start\n\nTry first. The solution is folded below it.\n")
    for name in ("00_one", "01_two"):
        nb = three()
        nbformat.write(nb, folder / f"{name}.ipynb")
        nb.metadata["peftlab"] = {"title": "00 One", "status": "ok"}
        nbformat.write(nb, reports / f"{name}.ipynb")
    return folder


def built(lessons, **options):
    folder = lessons.parent / "class"
    build_class(folder, lessons, **({"reports": lessons.parent / "reports"} | options))
    return folder


@pytest.fixture
def registry_as_it_was():
    """Solutions register methods; no other test shall meet them."""
    before = dict(METHODS)
    METHODS.setdefault("mine", next(iter(METHODS.values())))
    yield
    METHODS.clear()
    METHODS.update(before)


# --- all lessons -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_lesson_solved_is_right_and_its_copy_for_students_has_no_solution(path, registry_as_it_was, capsys):
    source = nbformat.read(path, as_version=4)
    questions = find_questions(source, path.name)
    filled = {c.id: c for c in instructor_copy(source, questions).cells}
    blank = student_copy(source, questions)
    assert [q.name for q in questions] == sorted({q.name for q in questions}, key=lambda name: int(name.split(".")[1]))
    for question in questions:
        stub, cell = source.cells[question.stub], filled[source.cells[question.stub].id]
        assert UNANSWERED.search(stub.source) or "unfreeze(block.attn.qkv)  # which" in stub.source
        assert not UNANSWERED.search(cell.source) and ast.parse(cell.source)
        pl = type("pl", (), {"check": staticmethod(check)})
        capsys.readouterr()
        exec(cell.source, {"pl": pl} | CODE)
        assert capsys.readouterr().out == cell.outputs[0].text
        assert cell.source.startswith("# NBVAL_CHECK_OUTPUT\n") and cell.execution_count
    text = nbformat.writes(blank)
    assert "<summary>Solution" not in text and "slideshow" not in text and "NBVAL_CHECK" not in text
    assert [c for c in blank.cells if c.get("outputs") or c.get("execution_count")] == []
    assert [t for c in blank.cells for t in c.metadata.get("otter", {}).get("tests", [])] == [
        q.name for q in questions
    ]
    assert len(blank.cells) >= len(source.cells) - len(questions)


def test_every_exercise_is_graded():
    assert sorted(q.name for path in NOTEBOOKS for q in find_questions(nbformat.read(path, 4), "")) == sorted(
        EXERCISES
    )


def test_the_start_page_of_students_does_not_speak_of_solutions(lessons):
    assert (built(lessons) / "student" / "start.md").read_text() == "# Start\n\nTry first.\n"
    start = build.student_start((LESSONS / "start.md").read_text("utf-8"))
    assert "olution" not in start and "Start again" not in start  # the command brings lessons with solutions
    assert "How a lesson works" in start


# --- copies ----------------------------------------------------------------------------------------------------------


def test_copies_differ_from_the_lesson_by_solutions_outputs_and_notes_only():
    source = three()
    before = nbformat.writes(source)
    questions = find_questions(source, "")
    student, instructor = student_copy(source, questions), instructor_copy(source, questions)
    assert nbformat.writes(source) == before
    assert [c.source for c in student.cells[:5]] == [*(c.source for c in source.cells[:4]), "print(1)"]
    assert student.cells[0].metadata == {} and student.cells[4].metadata == {"tags": ["thumbnail"]}
    assert student.cells[4].outputs == [] and student.cells[4].execution_count is None
    assert instructor.cells[3].source == "**Speaker notes.**\n\nA word to the class."
    assert instructor.cells[4].outputs == source.cells[4].outputs
    assert (
        [c.source for c in student.cells[6::2]] == [c.source for c in instructor.cells[6::2]] == 3 * ["More to read."]
    )
    assert student.cells[5].source == source.cells[5].source
    assert instructor.cells[9].source == (
        '# NBVAL_CHECK_OUTPUT\ndef answer(x):\n    return x // 2\nassert pl.check("tasks.2", answer)'
    )
    nbformat.validate(student)
    nbformat.validate(instructor)


def test_a_solution_alone_in_its_cell_takes_the_cell_along():
    source = new_notebook(cells=exercise("tour.1", "answer = ...", "answer = 1930"))
    assert len(student_copy(source, find_questions(source, "")).cells) == 1


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (exercise("tour.1", "answer = ...", "answer = 1")[:1], "00.ipynb: exercise tour.1 has no solution"),
        ([*exercise("tour.1", "", "1")[:1], new_markdown_cell("<details>x</details>")], "tour.1 has no solution"),
        ([*exercise("tour.1", "", "1"), *exercise("tour.1", "", "1")], "exercise tour.1 is checked in 2 places"),
        (exercise("tour.99", "answer = ...", "answer = 1"), "00.ipynb: unknown exercise 'tour.99'; did you mean"),
    ],
)
def test_a_lesson_with_a_faulty_exercise_is_named(cells, says):
    with pytest.raises(PeftlabError, match=re.escape(says)):
        find_questions(new_notebook(cells=cells), "00.ipynb")


def test_a_check_that_is_only_mentioned_is_no_exercise():
    cells = [new_code_cell('# pl.check("tour.1", answer, hint=True)'), new_markdown_cell('`pl.check("tour.1", 1)`')]
    assert find_questions(new_notebook(cells=cells), "") == []


def test_nbval_compares_what_the_checks_of_an_instructor_print(tmp_path):
    source = lesson(tour_1="answer = 1930", tasks_3="answer = 'test'")  # the second is wrong
    nbformat.write(instructor_copy(source, find_questions(source, "")), tmp_path / "one.ipynb")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--nbval-lax",
        "--nbval-current-env",
        tmp_path,
    ]
    out = subprocess.run([*map(str, command), "-v"], cwd=tmp_path, capture_output=True, text=True)
    assert re.findall(r"FAILED one\.ipynb::Cell (\d)", out.stdout) == ["4"], out.stdout + out.stderr
    assert "1 failed, 4 passed" in out.stdout


# --- grading ---------------------------------------------------------------------------------------------------------


def graded(question, source):
    """How many examples of an exercise's test fail after a cell, and what the test then says."""
    spec, names, said = {}, dict(CODE), io.StringIO()
    exec(grading_test(question), spec)
    with contextlib.suppress(NameError), contextlib.redirect_stdout(io.StringIO()):
        exec(source, names)
    (case,) = spec["test"]["suites"][0]["cases"]
    test = doctest.DocTestParser().get_doctest(case["code"], names, question.name, None, None)
    failed = doctest.DocTestRunner().run(test, out=said.write).failed
    return spec["OK_FORMAT"], spec["test"]["name"], spec["test"]["points"], failed, said.getvalue()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_grading_test_passes_for_the_solution_and_fails_for_the_stub(path, registry_as_it_was):
    source = nbformat.read(path, as_version=4)
    for question in find_questions(source, path.name):
        assert graded(question, question.solution)[:4] == (True, question.name, 1, 0)
        assert graded(question, source.cells[question.stub].source)[3] == 1


def test_a_failed_grading_test_shows_the_hint_and_a_missing_answer_fails():
    (question,) = find_questions(new_notebook(cells=exercise("tour.1", "answer = ...", "answer = 1930")), "")
    said = graded(question, "answer = 1920")[4]
    assert "each class also has a bias" in said and EXERCISES["tour.1"].praise not in said
    assert "NameError" in graded(question, "")[4]


@pytest.mark.skipif(importlib.util.find_spec("otter") is None, reason="otter-grader is not installed")
def test_otter_gives_a_point_for_each_right_answer_of_a_student(lessons):
    """Although every exercise calls its answer `answer`, and the copy is graded as the student has it."""
    folder = built(lessons) / "grading" / "00_one"
    run = {
        "cwd": folder,
        "check": True,
        "capture_output": True,
        "env": os.environ | {"PYTHONPATH": ":".join(sys.path)},
    }
    otter = [sys.executable, "-m", "otter"]
    subprocess.run([*otter, "generate", "--output-path", "autograder.zip"], **run)
    for right, scores in (([], [0, 0, 0]), (["tasks.3"], [0, 1, 0]), (list(RIGHT), [1, 1, 1])):
        nb = nbformat.read(lessons.parent / "class" / "student" / "00_one.ipynb", as_version=4)
        for cell in nb.cells:
            for name in right:
                if f'check("{name}"' in cell.source:
                    cell.source = f'{RIGHT[name]}\npl.check("{name}", answer);'
        nbformat.write(nb, folder / "00_one.ipynb")
        subprocess.run([*otter, "run", "--autograder", "autograder.zip", "00_one.ipynb"], **run)
        tests = json.loads((folder / "results.json").read_text())["tests"]
        assert {t["name"]: t["score"] for t in tests if "score" in t} == dict(zip(RIGHT, scores, strict=True))


# --- Binder and Colab ------------------------------------------------------------------------------------------------


def install_cell(monkeypatch, there):
    """What the first cell asks IPython for, on a machine where peftlab is `there` or is not."""
    asked = []
    nb = lesson()
    add_install_cell(nb, "me/my.peftlab")
    (cell,) = [c for c in nb.cells[:2] if c.cell_type == "code"]
    shell = type("Shell", (), {"run_line_magic": lambda self, *line: asked.append(line)})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "peftlab" and there or None)
    exec(TransformerManager().transform_cell(cell.source), {"get_ipython": shell})
    return asked


def test_the_first_cell_installs_where_peftlab_is_missing_and_else_does_nothing(monkeypatch):
    assert install_cell(monkeypatch, there=True) == []
    (asked,) = install_cell(monkeypatch, there=False)
    assert asked == ("pip", 'install --quiet "peftlab @ git+https://github.com/me/my.peftlab@main"')


def test_badges_lead_to_the_notebooks_in_the_repository(lessons):
    folder = built(lessons, repository="me/my.peftlab")
    readme = (folder / "student" / "README.md").read_text()
    for name in ("00_one", "01_two"):
        assert f"https://mybinder.org/v2/gh/me/my.peftlab/main?labpath=class%2Fstudent%2F{name}.ipynb" in readme
        assert f"https://colab.research.google.com/github/me/my.peftlab/blob/main/class/student/{name}.ipynb" in readme
        assert (folder / "student" / f"{name}.ipynb").exists() and f"]({name}.ipynb)" in readme
    assert "install" in (folder / "student" / "00_one.ipynb").read_text()
    assert "%pip" not in (folder / "instructor" / "00_one.ipynb").read_text()


def test_a_class_within_the_clone_is_linked_where_it_is(lessons, monkeypatch):
    monkeypatch.setattr(build, "REPOSITORY", lessons.parent.parent)
    place = f"{lessons.parent.name}/class/student/00_one.ipynb"
    assert f"/blob/main/{place}" in (built(lessons, repository="me/fork") / "student" / "README.md").read_text()


def test_without_a_repository_there_are_neither_badges_nor_an_install_cell(lessons):
    folder = built(lessons)
    assert not (folder / "student" / "README.md").exists()
    assert "pip" not in (folder / "student" / "00_one.ipynb").read_text()


# --- the build -------------------------------------------------------------------------------------------------------


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_all_parts_are_built_and_built_again(lessons, capsys):
    folder = built(lessons)
    tests = [f"grading/{nb}/tests/{name}.py" for nb in ("00_one", "01_two") for name in RIGHT]
    copies = [f"{kind}/{nb}.ipynb" for kind in ("student", "instructor") for nb in ("00_one", "01_two")]
    decks = [f"slides/{name}.html" for name in ("00_one", "01_two", "index")]
    assert names(folder) == sorted([*tests, *copies, *decks, ".class.json", "grading/README.md", "student/start.md"])
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    built(lessons)
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before
    assert "00_one: 1 slides, 3 exercises\n" in capsys.readouterr().out


def test_some_lessons_are_built_and_the_others_stay(lessons):
    folder = built(lessons, only="00")
    assert not (folder / "student" / "01_two.ipynb").exists()
    assert "01_two" not in (folder / "slides" / "index.html").read_text()
    built(lessons, only="01")
    assert (folder / "student" / "00_one.ipynb").exists()
    assert "00_one.html" in (folder / "slides" / "index.html").read_text()


@pytest.mark.parametrize("file", ["student/00_one.ipynb", "slides/00_one.html", "grading/00_one/tests/tour.1.py"])
def test_what_a_teacher_changed_is_never_written_over(file, lessons):
    folder = built(lessons)
    (folder / file).write_text((folder / file).read_text() + " ")
    (folder / "student" / "mine.txt").write_text("a file of the teacher's own")
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    with pytest.raises(PeftlabError, match=f"{file}: was changed since a build wrote it"):
        built(lessons)
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before
    (folder / file).unlink()
    built(lessons)
    assert (folder / file).exists() and (folder / "student" / "mine.txt").exists()


def test_a_folder_of_others_and_a_file_are_refused(lessons):
    (lessons.parent / "class").mkdir()
    (lessons.parent / "class" / "thesis.tex").write_text("x")
    with pytest.raises(PeftlabError, match="class: holds files that no build wrote"):
        built(lessons)
    with pytest.raises(PeftlabError, match="start.md is a file"):
        build_class(lessons / "start.md", lessons)
    with pytest.raises(PeftlabError, match="lessons: holds files that no build wrote"):
        build_class(lessons, lessons)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"only": "7"}, "no notebook starts with '7'"),
        ({"repository": "https://github.com/me/x"}, "is not OWNER/NAME"),
        ({"repository": "me"}, "is not OWNER/NAME"),
        ({"repository": ""}, "is not OWNER/NAME"),
    ],
)
def test_arguments_that_mean_nothing_are_refused_before_anything_is_written(options, says, lessons):
    with pytest.raises(PeftlabError, match=re.escape(says)):
        built(lessons, **options)
    assert not (lessons.parent / "class").exists()


def test_where_nothing_can_be_written_no_lesson_is_run(lessons, monkeypatch):
    asked, access = ran(lessons, monkeypatch), os.access
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(lessons.parent) and access(path, mode))
    (lessons.parent / "reports" / "00_one.ipynb").unlink(missing_ok=True)
    with pytest.raises(PeftlabError, match=f"class: {lessons.parent} may not be written to. Name another folder"):
        built(lessons)
    assert asked == []


def ran(lessons, monkeypatch, ok=True):
    """Replaces the running of lessons -> the list of those that were to be run."""
    asked = []

    def run(folder, reports, only):
        asked.append(only)
        for name in only.split(","):
            nb = nbformat.read(folder / f"{name}.ipynb", as_version=4)
            nb.metadata["peftlab"] = {"title": name, "status": "ok"}
            reports.mkdir(exist_ok=True)
            nbformat.write(nb, reports / f"{name}.ipynb")
            yield PageResult(name, name, "ok" if ok else "failed", 0, "fast", "", "", "" if ok else "no disk")

    monkeypatch.setattr(build, "build_workbook", run)
    return asked


def test_lessons_that_did_not_run_or_changed_since_are_run_first(lessons, monkeypatch, capsys):
    asked = ran(lessons, monkeypatch)
    built(lessons)
    assert asked == []
    nb = nbformat.read(lessons / "01_two.ipynb", as_version=4)
    nb.cells[2].source += "\nimport numpy"
    nbformat.write(nb, lessons / "01_two.ipynb")
    built(lessons)
    built(lessons, reports=lessons.parent / "new")
    assert asked == ["01_two", "00_one,01_two"]
    assert "1 of 2 lessons have no pictures" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", ["", "{}", "\0", '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}']
)
def test_damaged_pictures_are_not_used(content, lessons, monkeypatch):
    asked = ran(lessons, monkeypatch)
    (lessons.parent / "reports" / "00_one.ipynb").write_text(content)
    built(lessons)
    assert asked == ["00_one"]


def test_a_lesson_that_fails_is_named_and_nothing_is_written(lessons, monkeypatch):
    ran(lessons, monkeypatch, ok=False)
    with pytest.raises(PeftlabError, match=r"00_one failed, so it has no slides \(no disk\)"):
        built(lessons, reports=lessons.parent / "new")
    assert not (lessons.parent / "class").exists()


def test_a_lesson_that_failed_is_run_again(lessons, monkeypatch):
    """Its outputs end where it stopped, so slides made of them would lack pictures."""
    asked, file = ran(lessons, monkeypatch), lessons.parent / "reports" / "00_one.ipynb"
    nb = nbformat.read(file, as_version=4)
    nb.metadata["peftlab"]["status"] = "failed"
    nbformat.write(nb, file)
    built(lessons)
    assert asked == ["00_one"]


@pytest.mark.parametrize("how", STOPS)
def test_stopped_anywhere_and_given_again_it_comes_to_the_same(how, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "STALE", -1)  # an hour later
    folder = tmp_path / "class"
    old, new = ({f"slides/{name}.html": age for name in "abc"} for age in ("old", "new"))

    def write(texts):
        written = read_written(folder)
        refuse_others(folder, written, texts)
        write_files(folder, texts, written)

    def whole_files():
        assert {file.read_text() for file in folder.glob("slides/*.html") if file.is_file()} <= {"old", "new"}

    write(old)
    assert stopped_everywhere(lambda: write(new), folder, how, whole_files) > 20
    assert (folder / "slides" / "c.html").read_text() == "new"
