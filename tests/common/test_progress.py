import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

CODE = """import os
os.environ.pop("PEFTLAB_HEADLESS", None)
from peftlab.common.progress import progress
for n in progress(range(3), desc="counting"):
    {body}"""


@pytest.mark.parametrize(("body", "left"), [("pass", False), ("break", True)])
def test_a_bar_that_is_full_leaves_nothing_in_a_saved_notebook(body, left):
    """A widget that is closed cannot be shown again: JupyterLab says "model not found" in its place."""
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE.format(body=body))])
    (cell,) = NotebookClient(nb, timeout=120, kernel_name="python3").execute().cells
    (output,) = cell.outputs
    assert ("application/vnd.jupyter.widget-view+json" in output.data) == left
    assert left or output.data == {"text/plain": ""}


def test_outside_a_notebook_the_bar_is_text_and_goes_when_it_is_full():
    """So that of every command in a terminal; the other tests are headless."""
    done = subprocess.run([sys.executable, "-c", CODE.format(body="pass")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    drawn = [line.strip() for line in done.stderr.splitlines()]
    assert any(line.startswith("counting:") for line in drawn) and drawn[-1] == ""
