"""`peftlab class build`: the lessons as a class needs them, written into one folder.

    student/     the lessons without solutions
    instructor/  the lessons with every exercise solved, its check's output stored for nbval, and speaker notes
    slides/      one HTML file a lesson, of the pictures that `peftlab workbook` left, and an index
    grading/     the tests of otter-grader, a folder a lesson

A file that an earlier build wrote and nobody changed is replaced. Where there is anything else in its place, the build
stops before it begins: what a teacher edited is never written over.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from ...common.errors import PeftlabError
from ...common.paths import REPOSITORY
from ..lessons import LESSONS, START_PAGE
from ..page.cells import title
from ..page.render import TEMPLATES
from ..run import build_workbook, find_notebooks, say, select
from .copies import instructor_copy, student_copy, student_start
from .grading import grading_test
from .questions import find_questions
from .routes import add_install_cell, badges, check_repository
from .slides import find_slides
from .written import read_written, refuse_others, write_files


def build_class(
    folder: str | Path,
    notebooks_folder: str | Path = LESSONS,
    only: str | None = None,
    reports: str | Path = "reports",
    repository: str | None = None,
) -> None:
    """Write the class into `folder`. `only` picks lessons as `build_workbook` does; the others stay as they are there.

    reports: what `peftlab workbook` wrote, for the slides; a lesson that it has no pictures of is run first.
    repository: OWNER/NAME of the teacher's copy of peftlab on GitHub, which students open lessons from.
    Raises PeftlabError, before anything is run or written, where `folder` holds what no build wrote or may not be
    written to, a lesson has an exercise without a solution, or an argument means nothing.
    """
    folder, source = Path(folder).resolve(), Path(notebooks_folder).resolve()
    if repository is not None:
        check_repository(repository)
    all_lessons = find_notebooks(source)
    titles = {path.stem: title(nbformat.read(path, as_version=4), path.stem) for path in all_lessons}
    lessons = {path: nbformat.read(path, as_version=4) for path in select(all_lessons, only)}
    texts = _copies(lessons, repository)
    texts["student/" + START_PAGE] = student_start((source / START_PAGE).read_text("utf-8"))
    texts["grading/README.md"] = TEMPLATES.get_template("grading.md").render(name=all_lessons[0].stem)
    if repository is not None:
        texts["student/README.md"] = badges(_there(folder, texts, "student", titles), repository, _place(folder))
    above = next(place for place in (folder, *folder.parents) if place.is_dir())
    if not os.access(above, os.W_OK):  # at once, not after the lessons were run
        raise PeftlabError(f"{folder}: {above} may not be written to. Name another folder")
    written = read_written(folder)
    refuse_others(folder, written, [*texts, "slides/index.html", *(f"slides/{path.stem}.html" for path in lessons)])
    for path, executed in _executed(lessons, Path(reports)).items():
        slides = find_slides(lessons[path], executed, source)
        if slides:
            deck = TEMPLATES.get_template("slides.html").render(title=titles[path.stem], slides=slides)
            texts[f"slides/{path.stem}.html"] = deck
        say(f"{path.stem}: {len(slides)} slides, {len(find_questions(lessons[path], path.name))} exercises")
    decks = _there(folder, texts, "slides", titles)
    texts["slides/index.html"] = TEMPLATES.get_template("decks.html").render(decks=decks)
    write_files(folder, texts, written)
    say(f"the class is in {folder}")


def _there(folder: Path, texts: Mapping[str, str], kind: str, titles: Mapping[str, str]) -> list[tuple[str, str]]:
    """(name, title) of each lesson that the class has in one of its folders, of this build or of an earlier one."""
    files = {name: f"{kind}/{name}.{'html' if kind == 'slides' else 'ipynb'}" for name in titles}
    return [(name, titles[name]) for name, file in files.items() if file in texts or (folder / file).exists()]


def _copies(lessons: Mapping[Path, NotebookNode], repository: str | None) -> dict[str, str]:
    """{file: text} of what is made from the lessons as they are, without running them."""
    texts = {}
    for path, lesson in lessons.items():
        questions = find_questions(lesson, path.name)
        student = student_copy(lesson, questions)
        if repository is not None:
            add_install_cell(student, repository)
        texts[f"student/{path.name}"] = nbformat.writes(student) + "\n"
        texts[f"instructor/{path.name}"] = nbformat.writes(instructor_copy(lesson, questions)) + "\n"
        for question in questions:
            texts[f"grading/{path.stem}/tests/{question.name}.py"] = grading_test(question)
    return texts


def _executed(lessons: Mapping[Path, NotebookNode], reports: Path) -> dict[Path, NotebookNode]:
    """Every lesson as it ran. Those without an executed copy of the same code in `reports` are run first."""
    found = {path: _ran(lesson, reports / path.name) for path, lesson in lessons.items()}
    missing = [path for path, executed in found.items() if executed is None]
    if missing:
        say(f"{len(missing)} of {len(lessons)} lessons have no pictures in {reports} yet and are run first")
        for result in build_workbook(missing[0].parent, reports, only=",".join(path.stem for path in missing)):
            if not result.ok:
                raise PeftlabError(f"{result.name} failed, so it has no slides ({result.error})")
    return {path: executed or nbformat.read(reports / path.name, as_version=4) for path, executed in found.items()}


def _ran(lesson: NotebookNode, file: Path) -> NotebookNode | None:
    """The file, if it is the lesson, executed without an error, with the code that it has now."""
    try:
        executed = nbformat.read(file, as_version=4)
        code = {cell.id: cell.source for cell in executed.cells}
        same = all(code.get(cell.id) == cell.source for cell in lesson.cells if cell.cell_type == "code")
        return executed if same and executed.metadata["peftlab"]["status"] == "ok" else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, nbformat.ValidationError):  # none, or damaged
        return None


def _place(folder: Path) -> str:
    """Where the class stands in the repository: where it is in this clone, else at the top under its own name."""
    return folder.relative_to(REPOSITORY).as_posix() if folder.is_relative_to(REPOSITORY) else folder.name
