"""One progress bar for every place: a widget in JupyterLab, plain text where nobody can see widgets."""

import os
import sys

from tqdm import tqdm as text_bar
from tqdm.auto import tqdm as auto_bar


def headless():
    """True under papermill, nbval and CI, where a widget would need a browser."""
    return os.environ.get("PEFTLAB_HEADLESS", "") not in ("", "0")


def progress(iterable=None, **options):
    """tqdm with our defaults. Headless it writes few, plain lines and leaves nothing behind."""
    if headless():
        quiet = {"ascii": True, "leave": False, "mininterval": 5, "file": sys.stderr}
        return text_bar(iterable, **(quiet | options))
    return auto_bar(iterable, **({"leave": False} | options))
