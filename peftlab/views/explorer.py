"""Explorers of drawings: a function of a few choices, drawn by a live kernel; a page keeps some of its pictures."""

from collections.abc import Callable, Sequence
from itertools import product
from math import prod
from typing import Any

import ipywidgets
from IPython.display import display
from matplotlib.figure import Figure

from ..common.progress import headless
from .figures import show
from .inside.explorer import Choice, Explorer
from .inside.packing import drawing

MOST_KEPT = 24  # pictures in a page


def explore(draw: Callable[..., Figure], says: str, **choices: Sequence[Any]) -> dict[str, ipywidgets.Widget]:
    """Show draw(**choices) with controls: in JupyterLab any of them, drawn when asked for; in a page those kept.

    draw returns a Figure. says: what is to be seen, as for `show`. choices: for each argument a list of values
    (drop-down) or a range (slider); the first value is shown first. A page keeps all combinations if they are at most
    24, else the values of the first choice with the others at their first. Returns the live controls by name.
    """
    if headless():
        show(kept(draw, **choices), says)
        return {}
    controls, output = {name: _control(name, values) for name, values in choices.items()}, ipywidgets.Output()

    def redraw(_: Any = None) -> None:
        with output:
            output.clear_output(wait=True)
            show(draw(**{name: control.value for name, control in controls.items()}), says)

    for control in controls.values():
        control.observe(redraw, "value")
    redraw()
    display(ipywidgets.VBox([*controls.values(), output]))
    return controls


def kept(draw: Callable[..., Figure], **choices: Sequence[Any]) -> Explorer:
    """Pictures of the states that a page keeps, as an explorer that needs no kernel.

    >>> import matplotlib.pyplot as plt
    >>> explorer = kept(lambda block, head: plt.figure(), block=range(1, 4), head=range(20))
    >>> len(explorer.pictures), [(choice.name, choice.size) for choice in explorer.choices]
    (3, [('block', 3)])
    """
    if prod(map(len, choices.values())) > MOST_KEPT:
        first, *others = choices
        rest = {name: choices[name][0] for name in others}
        return kept(lambda **chosen: draw(**chosen, **rest), **{first: choices[first]})
    states = [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]
    figures = [draw(**state) for state in states]
    return Explorer(
        title=", ".join(choices),
        choices=[
            Choice(name, values, "slider" if isinstance(values, range) else "list") for name, values in choices.items()
        ],
        pictures=[(drawing(f), ", ".join(map(str, state.values()))) for f, state in zip(figures, states, strict=True)],
        pictured=list(choices),
        strip=figures[0],
    )


def _control(name: str, values: Sequence[Any]) -> ipywidgets.Widget:
    """A slider for a range, else a drop-down.

    >>> slider = _control("block", range(1, 13))
    >>> type(slider).__name__, slider.value, slider.max
    ('IntSlider', 1, 12)
    """
    if isinstance(values, range):
        return ipywidgets.IntSlider(
            values[0], values[0], values[-1], values.step, description=name, continuous_update=False
        )
    return ipywidgets.Dropdown(options=values, value=values[0], description=name)
