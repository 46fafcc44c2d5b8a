"""Annotations are checked while tests run, shapes included, whichever of them pytest was asked for."""

import ast
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import TypeCheckError
from typecheck import unchecked

from peftlab.tasks.synthetic.solids import dot

UNEQUAL = np.zeros((2, 3)), np.zeros((3, 3))


def test_a_wrong_shape_is_refused():
    with pytest.raises(TypeCheckError):
        dot(*UNEQUAL)


def test_drawing_a_whole_task_goes_unchecked_and_nothing_after_it():
    with pytest.raises(ValueError, match="broadcast"):
        unchecked()(dot)(*UNEQUAL)
    with pytest.raises(TypeCheckError):
        dot(*UNEQUAL)


def test_no_conftest_imports_what_is_to_be_checked():
    """pytest reads a conftest of the folder that it is asked for before pytest_configure."""
    for file in Path(__file__).parent.rglob("conftest.py"):
        imports = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert "peftlab" not in " ".join(map(ast.unparse, imports)), file
