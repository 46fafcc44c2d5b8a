"""One progress bar for all uses: a widget in JupyterLab, plain text where nobody can see widgets."""

import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm as text_bar
from tqdm.auto import tqdm as auto_bar

_Bar: Any = auto_bar

if (widgets := sys.modules.get("tqdm.notebook")) and issubclass(auto_bar, widgets.tqdm):
    from IPython.display import display

    class _Bar(auto_bar):  # type: ignore[no-redef]
        """Takes itself out of the output: where a lesson was saved and is opened again, closed widgets are errors."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options, display=False)
            self.output: Any = None
            if not self.disable:
                self.output = display(self.container, display_id=True)  # type: ignore[attr-defined]

        def close(self) -> None:
            over = self.disable
            super().close()
            if self.output and not over and not (self.total and self.n < self.total):
                self.output.update({"text/plain": ""}, raw=True)


def headless() -> bool:
    """True under papermill, nbval and CI, where a widget would need a browser."""
    return os.environ.get("PEFTLAB_HEADLESS", "") not in ("", "0")


def progress(iterable: Iterable | None = None, **options: Any) -> text_bar:
    """tqdm with our defaults. Headless it writes few, plain lines and leaves nothing behind.

    >>> [epoch**2 for epoch in progress(range(3), desc="epochs")]
    [0, 1, 4]
    """
    defaults: dict[str, Any] = {"iterable": iterable, "leave": False}
    if headless():
        plain = {"ascii": True, "mininterval": 5, "file": sys.stderr}
        return text_bar(**(defaults | plain | options))
    return _Bar(**(defaults | options))
