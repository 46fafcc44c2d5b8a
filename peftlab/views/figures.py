"""A picture and the sentence that says what it shows, for those who hear a page and for the caption of the report."""

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..common.errors import PeftlabError


@runtime_checkable
class Interactive(Protocol):
    """What brings its own piece of a page, as explorers do."""

    def html(self, says: str) -> str: ...


def show(drawn: Figure | Axes | Iterable[Axes] | Interactive, says: str) -> None:
    """Display a figure once, with its sentence as alternative text; the report numbers it and prints the sentence.

    drawn: what a view returned: a Figure, Axes of one, an array of Axes, or an explorer. says: what is to be seen, in
    one or two sentences, with the numbers that matter. Raises PeftlabError without a sentence.

    >>> show(plt.subplots()[0], "")
    Traceback (most recent call last):
    peftlab.common.errors.PeftlabError: show(figure, says): says must be a sentence on what is to be seen, not ''
    """
    if not says.strip().endswith((".", "?", "!")):
        raise PeftlabError(f"show(figure, says): says must be a sentence on what is to be seen, not {says!r}")
    if isinstance(drawn, Interactive):
        display({"text/html": drawn.html(says), "text/plain": says}, raw=True)
        return
    first = drawn if isinstance(drawn, Figure | Axes) else np.ravel(np.asarray(drawn, object))[0]
    figure = first if isinstance(first, Figure) else first.get_figure(root=True)
    display(figure, metadata={"image/png": {"alt": says}})
    plt.close(figure)
