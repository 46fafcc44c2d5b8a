"""The teacher's pages, docs/course/: they agree with the lessons, with one another and with the exercises."""

import importlib.util
import re
from collections import Counter

import nbformat
import pytest

from peftlab.common.paths import REPOSITORY
from peftlab.workbook.exercises import EXERCISES

COURSE = REPOSITORY / "docs" / "course"
PAGES = {file.name: file.read_text(encoding="utf-8") for file in sorted(COURSE.glob("*.md"))}
LESSONS = {file.stem: nbformat.read(file, 4) for file in sorted((REPOSITORY / "notebooks").glob("[0-9]*.ipynb"))}
PROSE = {name: "\n".join(cell.source for cell in nb.cells) for name, nb in LESSONS.items()}
QUESTIONS = re.split(r"^### Question ", PAGES["quiz.md"], flags=re.M)[1:]
MISCONCEPTIONS = re.split(r"^### ", PAGES["misconceptions.md"], flags=re.M)[1:]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("lesson_minutes", REPOSITORY / "tools" / "lesson_minutes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_is_linked_from_the_first():
    assert {name for name in PAGES if f"({name})" not in PAGES["README.md"]} == {"README.md"}


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda text: text[:4])
def test_a_question_has_four_choices_and_one_is_right(question):
    said, answer = question.split("<details>")
    assert re.findall(r"^- \*\*([A-Z])\*\* \S", said, re.M) == list("ABCD")
    (right,) = re.findall(r"\*\*Right: ([A-D])\.\*\*", answer)
    wrong = re.findall(r"^- ([A-Z]): \[([\w-]+)\]\(misconceptions\.md#\2\)$", answer, re.M)
    assert [letter for letter, _ in wrong] == [letter for letter in "ABCD" if letter != right]
    explanation = re.search(r"\*\*Right: .\.\*\* (.+)", answer)[1]
    assert len(re.findall(r"[.?!](?= [A-Z]|$)", explanation)) == 2, "an explanation has two sentences"


def test_three_questions_a_lesson_and_no_pattern_in_the_answers():
    lessons = [name[:2] for name in LESSONS if name[:2] < "09"]
    assert [question[:4] for question in QUESTIONS] == [f"{lesson}.{n}" for lesson in lessons for n in (1, 2, 3)]
    rights, longest = [], 0
    for question in QUESTIONS:
        rights += re.findall(r"\*\*Right: ([A-D])", question)
        choices = dict(re.findall(r"^- \*\*([A-D])\*\* (.+)$", question, re.M))
        longest += max(choices, key=lambda letter: len(choices[letter])) == rights[-1]
    assert set(Counter(rights)) == set("ABCD") and min(Counter(rights).values()) >= 5
    assert longest <= len(QUESTIONS) // 2, "the longest choice is too often the right one"


@pytest.mark.parametrize("entry", MISCONCEPTIONS, ids=lambda text: text.partition("\n")[0])
def test_a_misconception_says_what_is_so_and_where_it_shows(entry):
    parts = ["People think", "Why it is tempting", "What is so", "Where it shows", "Ask"]
    assert re.findall(r"^- \*\*(.+?)\*\*: \S", entry, re.M) == parts
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", entry.partition("\n")[0]), "its heading is its id"
    assert re.search(r"^- \*\*Where it shows\*\*: `\d\d_\w+`, \*", entry, re.M), "it names a section of a lesson"


def test_misconceptions_have_ids_of_their_own():
    ids = [entry.partition("\n")[0] for entry in MISCONCEPTIONS]
    assert len(ids) > 30 and len(set(ids)) == len(ids)


@pytest.mark.parametrize("page", PAGES)
def test_lessons_and_sections_that_are_named_exist(page):
    """`04_gist`, *4 What the tokens attend to* is a heading of that lesson; `04_gist`, sections 1 to 3 are numbers."""
    for name in re.findall(r"`(\d\d_\w+)`", PAGES[page]):
        assert name in LESSONS
    for name, heading in re.findall(r"`(\d\d_\w+)`, (?:from )?\*([^*]+)\*", PAGES[page]):
        assert re.search(rf"^##+ {re.escape(heading)}$", PROSE[name], re.M), (name, heading)
    for name, first, last in re.findall(r"`(\d\d_\w+)`, sections? (\d+)(?:(?: to | and |, )(\d+))?", PAGES[page]):
        there = re.findall(r"^## (\d+) ", PROSE[name], re.M)
        assert {first, last or first} <= set(there), (name, first, last)


def test_what_is_voted_on_is_a_slide():
    """The rows of the 90 minutes' tables: slides of finished pictures are all that is on the projector."""
    rows = re.findall(r"^\| `(\d\d_\w+)`, \*([^*]+)\* \|", PAGES["class_90_minutes.md"], re.M)
    on_slides = {
        (name, heading)
        for name, nb in LESSONS.items()
        for cell in nb.cells
        if cell.metadata.get("slideshow", {}).get("slide_type") in ("slide", "fragment")
        for heading in re.findall(r"^##+ (.+)$", cell.source, re.M)
    }
    assert len(rows) > 10 and set(rows) <= on_slides


@pytest.mark.parametrize("page", PAGES)
def test_exercises_that_are_named_exist(page):
    groups = "|".join({name.partition(".")[0] for name in EXERCISES})
    named = re.findall(rf"`((?:{groups})\.\d+)`|\bcheck\(\"(\w+\.\d+)\"", PAGES[page])
    assert {name for pair in named for name in pair if name} <= set(EXERCISES)
    for number in re.findall(r"\bbuilds? (\d)", PAGES[page]):
        assert f"build.{number}" in EXERCISES


def test_every_exercise_and_question_tests_an_outcome():
    table = PAGES["README.md"].partition("## Learning outcomes")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(\w+\.\d+)`", table)) == set(EXERCISES)
    assert set(re.findall(r"\b(0\d\.\d)\b", table)) == {question[:4] for question in QUESTIONS}
    assert all(len(cells) == 6 and any(cells[3:5]) for cells in map(cells_of, table.strip().splitlines()[3:]))


def cells_of(row):
    return [cell.strip() for cell in row.split("|")]


def test_a_term_of_the_glossary_is_in_its_lesson():
    rows = [cells_of(row) for row in PAGES["glossary.md"].splitlines() if re.match(r"\| .+ \| .+ \| `\d\d_", row)]
    assert len(rows) > 80
    for _, term, meaning, lesson, _ in rows:
        words = re.sub(r"\(.*?\)", "", term).split(" / ")
        found = [word for word in words if re.search(rf"\b{re.escape(word.strip())}", PROSE[lesson.strip("`")], re.I)]
        assert found and meaning, f"{term} is not in {lesson}"


def test_ninety_minutes_are_ninety():
    page = PAGES["class_90_minutes.md"]
    rows = re.findall(r"^\| (\d):(\d\d) \| (\d+) \| \[(.+?)\]", page, re.M)
    clock = 0
    for hours, minutes, length, part in rows:
        assert 60 * int(hours) + int(minutes) == clock, part
        assert re.search(rf"^## {re.escape(part)}\n\*\*{hours}:{minutes}, {length} minutes\.\*\*", page, re.M), part
        clock += int(length)
    assert clock == 90


def test_a_week_has_three_hours():
    weeks = re.findall(r"^\| \d \| .* \| (\d+) \| (\d+) \| (\d+) \|$", PAGES["six_weeks.md"], re.M)
    assert [sum(map(int, week)) for week in weeks] == [180] * 6
    for before, in_class, homework in re.findall(
        r"\*\*Before \((\d+)\).*?\*\*In class \((\d+)\).*?\*\*Homework \((\d+)\)", PAGES["six_weeks.md"], re.S
    ):
        assert (before, in_class, homework) in weeks
    for planned in re.findall(r"\*\*In class \(90\)\*\*: (.+?)\n- \*\*", PAGES["six_weeks.md"], re.S):
        for route in planned.split(" B: "):
            assert sum(map(int, re.findall(r"\((\d+)\)", route))) == 90, route


def test_the_page_of_exercises_is_that_of_the_notebooks(tool):
    """`python tools/lesson_minutes.py` writes it again."""
    assert PAGES["exercises.md"] == tool.exercises_page(tool.lessons(tool.NOTEBOOKS))


def test_the_page_of_minutes_has_every_section(tool):
    for name, nb in LESSONS.items():
        table = PAGES["minutes.md"].partition(f"## `{name}`\n")[2].partition("\n## ")[0]
        assert [cells_of(row)[1] for row in table.strip().splitlines()[2:]] == list(tool.sections(nb))


TITLE = "# 00 A\n\nfour words in here"


def lesson(*cells):
    return nbformat.v4.new_notebook(cells=list(cells))


def test_sections_are_split_inside_a_cell(tool):
    md, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    nb = lesson(md(TITLE), code("1"), md("end\n\n## 1 One\n\ntext"), code("2"), md("## References\n\nmany"), code("3"))
    assert {name: len(cells) for name, cells in tool.sections(nb).items()} == {"Start": 3, "1 One": 2}


def test_words_leave_out_what_is_folded_and_code(tool):
    text = (
        f"{TITLE}\n\n```python\na b c\n```\n<details><summary>Solution</summary>x y\n</details>\n\n$a + b$ isn't `x`"
    )
    assert tool.words([nbformat.v4.new_markdown_cell(text)]) == 2 + 4 + 3


def test_minutes_of_a_section_add_up(tool):
    md, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    timed = {"papermill": {"duration": 30.0}}
    cells = [
        md("word " * 260),
        code("pl.views.show(a)", metadata=timed),
        code("pl.views.show(pl.views.inside.walk(b))", metadata=timed),
        code('answer = ...\npl.check("tour.1", answer);'),
    ]
    part = tool.part(cells, {"tour.1": 4})
    assert (part.words, part.figures, part.views, part.exercises, part.seconds) == (260, 1, 1, 4, 60)
    assert part.minutes == pytest.approx(2 + 1 + 3 + 4 + 1)


def test_an_exercise_is_read_off_its_cells(tool):
    md, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    solution = "<details><summary>Solution</summary>\n\n```python\nanswer = lambda x: x\n```\n\n</details>"
    cells = [
        md("### Exercise 1: go on\n\n*Hard, 7 minutes.* Text."),
        code('pl.check("tour.1", answer);'),
        md(solution),
    ]
    (task,) = tool.tasks("00_a", lesson(*cells))
    assert task == tool.Task("tour.1", "00_a", "go on", "function", "hard", 7)


@pytest.mark.parametrize(
    ("solution", "kind"),
    [
        ("answer = 192 * 10 + 10", "number"),
        ('answer = "val200"', "choice"),
        ('answer = {"a": True, "b": False}', "choice"),
        ('answer = {"a": 6, "b": 5}', "number"),
        ("answer = lambda x: x", "function"),
        ("def loss(a):\n    return a\n\n\nanswer = loss", "function"),
        ("class A:\n    pass\n\n\nanswer = A", "class"),
    ],
)
def test_the_kind_of_an_answer_is_read_off_its_solution(tool, solution, kind):
    assert tool.kind(solution) == kind
