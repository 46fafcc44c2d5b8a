"""One progress bar for all uses: a widget in JupyterLab, plain text where nobody can see widgets."""

import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm as text_bar
from tqdm.auto import tqdm as auto_bar


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
    return auto_bar(**(defaults | options))
