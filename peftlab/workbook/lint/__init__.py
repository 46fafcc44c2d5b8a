"""The workbook's house rules for notebooks, as a list of problems.

python -m peftlab.workbook.lint notebooks/            # list the problems, exit 1 if there are any
python -m peftlab.workbook.lint --clean notebooks/    # strip outputs, counts and editors' metadata first
"""

import re
from pathlib import Path

import nbformat

from .cleanliness import cleanliness_problems
from .code import code_problems, figure_problems, parameter_problems
from .course import course_problems, length_problems
from .prose import prose_problems

REPORTS = ("your_images.ipynb",)  # no lessons: nobody learns or predicts there, but they are as clean as lessons


def problems(path: str | Path) -> list[str]:
    """Every house rule that the notebook breaks, in words; an empty list is a clean notebook."""
    path = Path(path)
    number = re.match(r"(\d\d)_\w+\.ipynb$", path.name)
    if not number and path.name not in REPORTS:
        return ["the file must be named NN_words.ipynb"]
    try:
        nb = nbformat.read(path, as_version=4)
        nbformat.validate(nb)
    except (ValueError, nbformat.ValidationError) as error:
        return [f"not a valid notebook: {str(error).splitlines()[0]}"]
    if not number:
        return figure_problems(nb) + length_problems(nb) + cleanliness_problems(nb)
    return (
        parameter_problems(nb)[0]
        + code_problems(nb)
        + figure_problems(nb)
        + prose_problems(nb, number[1])
        + course_problems(nb)
        + cleanliness_problems(nb)
    )
