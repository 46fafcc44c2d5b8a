"""A page for readers who do no exercises."""

from lesson import LESSON, RECORD, saved, visible
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from peftlab.workbook.page.reader import without_exercises
from peftlab.workbook.page.render import render_page


def test_a_page_for_readers_has_no_exercises():
    student, reader = render_page(LESSON, RECORD), render_page(LESSON, RECORD, reader=True)
    for words in ("not answered yet", "Exercise 1", "Easy, 3 minutes", "Solution"):
        assert words in visible(student) and words not in visible(reader)
    for words in ("Prose stays.", "After it.", "2 Then", "Summary"):
        assert words in visible(reader)
    assert saved(student, "application/x-ipynb+json") == saved(reader, "application/x-ipynb+json")


def test_of_a_notebook_without_exercises_everything_stays():
    nb = new_notebook(cells=[new_markdown_cell("Exercise 1 is\n### Exercises"), new_code_cell('# check("a.1", 1)\n1')])
    assert without_exercises(nb).cells == nb.cells
