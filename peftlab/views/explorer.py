"""Interactive explorers with a static twin: draw(state) is a plain function, the widget only calls it."""

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets
from IPython.display import display
from matplotlib.figure import Figure

from ..common.progress import headless
from .figures import show


def explore(draw: Callable[..., Figure], says: str, **choices: Sequence[Any]) -> dict[str, ipywidgets.Widget]:
    """Show draw(**first choices) as a static figure and, where somebody can click, controls that draw the others.

    draw returns a Figure. says: what is to be seen, as for `show`. choices: for each argument a list of values
    (drop-down) or a range (slider); the first value is that of the static twin, which is what a headless run and an
    exported page show. Returns the controls by name.
    """
    show(draw(**{name: values[0] for name, values in choices.items()}), says)
    if headless():
        return {}
    controls, output = {name: _control(name, values) for name, values in choices.items()}, ipywidgets.Output()

    def redraw(_: Any) -> None:
        with output:
            output.clear_output(wait=True)
            show(draw(**{name: control.value for name, control in controls.items()}), says)

    for control in controls.values():
        control.observe(redraw, "value")
    display(ipywidgets.VBox([*controls.values(), output]))
    return controls


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
