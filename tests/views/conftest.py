"""What every test of a picture needs."""

import matplotlib.pyplot as plt
import pytest
from matplotlib.text import Text


@pytest.fixture(autouse=True)
def readable_figures():
    """Every picture that a test draws has type for the back row; closed again afterwards."""
    from peftlab.views.style import MIN_FONT  # not above: pytest reads this file before annotations are checked

    plt.close("all")  # what tests of other rooms left open, in whatever order they ran
    yield
    small = {
        (text.get_text(), text.get_fontsize())
        for figure in map(plt.figure, plt.get_fignums())
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text() and text.get_fontsize() < MIN_FONT
    }
    plt.close("all")
    assert not small
