"""What a process loads, written down as it is loaded, for a page that says what its numbers were made with."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from .errors import PeftlabError

VARIABLE = "PEFTLAB_USED"
"""Names the file to write to. Where it is not set, nothing is written, and no fingerprint is computed."""


def note_use(kind: str, name: str, fingerprint: Callable[[], str]) -> None:
    """Add a line to the file that $PEFTLAB_USED names: kind ("task", "backbone", ...), name and fingerprint.

    What cannot be fingerprinted, as a task with missing images, is not noted: whoever uses it will say so.
    """
    if file := os.environ.get(VARIABLE):
        with suppress(PeftlabError):
            line = json.dumps([kind, name, fingerprint()])
            with open(file, "a", encoding="utf-8") as lines:  # one short write, so that processes may share the file
                lines.write(f"{line}\n")


def read_used(file: Path) -> list[tuple[str, str, str]]:
    """(kind, name, fingerprint) of all that was noted in a file, each once, in the order of its first use."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return list(dict.fromkeys(tuple(json.loads(line)) for line in lines))
