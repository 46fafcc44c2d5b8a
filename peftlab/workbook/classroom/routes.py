"""Ways to a student's notebooks without installing anything: Binder and Colab, from the teacher's copy on GitHub."""

import re
from collections.abc import Sequence
from urllib.parse import quote

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from ...common.errors import PeftlabError

BRANCH = "main"
_INSTALL = '''\
# On Colab this brings peftlab, which takes minutes; where peftlab is installed, it does nothing.
import importlib.util

if importlib.util.find_spec("peftlab") is None:
    %pip install --quiet "peftlab @ git+https://github.com/{repository}@{branch}"'''
_BADGES = """\
| lesson | in the browser |
|---|---|
{rows}

The badges work once this folder is `{folder}/student` on the branch `{branch}` of <https://github.com/{repository}>.
"""


def check_repository(repository: str) -> None:
    """Raise PeftlabError unless it is OWNER/NAME, as GitHub names a repository.

    >>> check_repository("https://github.com/me/peftlab")
    Traceback (most recent call last):
    peftlab.common.errors.PeftlabError: repository 'https://github.com/me/peftlab' is not OWNER/NAME, as in me/peftlab
    """
    if not re.fullmatch(r"[\w-]+/[\w.-]+", repository, re.A):
        raise PeftlabError(f"repository {repository!r} is not OWNER/NAME, as in me/peftlab")


def badges(lessons: Sequence[tuple[str, str]], repository: str, folder: str) -> str:
    """A README in Markdown with one row a lesson. lessons: (name, title). folder: of the class in the repository."""
    rows = []
    for name, title in lessons:
        file = f"{folder}/student/{name}.ipynb"
        binder = f"https://mybinder.org/v2/gh/{repository}/{BRANCH}?labpath={quote(file, safe='')}"
        colab = f"https://colab.research.google.com/github/{repository}/blob/{BRANCH}/{quote(file)}"
        rows.append(
            f"| [{title}]({quote(name)}.ipynb) "
            f"| [![Open in Binder](https://mybinder.org/badge_logo.svg)]({binder}) "
            f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab}) |"
        )
    return _BADGES.format(rows="\n".join(rows), branch=BRANCH, repository=repository, folder=folder)


def add_install_cell(nb: NotebookNode, repository: str) -> None:
    """Put in front of the notebook's first code cell one that installs peftlab where it is missing."""
    first = next((at for at, cell in enumerate(nb.cells) if cell.cell_type == "code"), len(nb.cells))
    cell = new_code_cell(_INSTALL.format(repository=repository, branch=BRANCH), id="install-peftlab")
    nb.cells.insert(first, cell)
