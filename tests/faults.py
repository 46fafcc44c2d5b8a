"""One call, stopped before each of its file operations in turn and given again: it must come to the same bytes."""

import errno
import itertools
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from peftlab.common.errors import PeftlabError

EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")
STOPS = {  # what is raised in place of an operation, and whether in place of all that follow, too
    "interrupted": (KeyboardInterrupt(), False),
    "killed": (KeyboardInterrupt(), True),  # nothing tidies up
    "disk full": (OSError(errno.ENOSPC, "No space left on device"), False),
}


class _Stop:
    """An audit hook, which Python asks before each file operation. It cannot be taken out, only switched off."""

    folder, left, installed = "", 0, False
    fault: BaseException
    for_good = False

    def __call__(self, event: str, args: tuple) -> None:
        if self.folder and event in EVENTS and str(args[0]).startswith(self.folder):
            self.left -= 1
            if self.left == -1 or (self.left < 0 and self.for_good):
                raise self.fault


_stop = _Stop()


def contents(folder: Path) -> dict[str, bytes | None]:
    """{path: bytes} of all files, None for folders; but for the empty files of locks."""
    found = (p for p in sorted(folder.rglob("*")) if p.name != ".lock")
    return {str(p.relative_to(folder)): None if p.is_dir() else p.read_bytes() for p in found}


def stopped_everywhere(call: Callable[[], object], folder: Path, how: str, meanwhile: Callable[[], object]) -> int:
    """How many operations were tried. Asserts that what lies in `folder` in the end is what an unbroken call makes.

    meanwhile: asserts what must hold between the call that is stopped and the one that is not.
    """
    if not _stop.installed:
        sys.addaudithook(_stop)
        _stop.installed = True
    before = contents(folder)
    call()
    whole = contents(folder)
    for number in itertools.count():
        _restore(folder, before)
        _stop.folder, _stop.left = str(folder), number
        _stop.fault, _stop.for_good = STOPS[how]
        try:
            call()
        except (KeyboardInterrupt, OSError, PeftlabError):
            pass
        finally:
            _stop.folder = ""
        meanwhile()
        call()
        assert contents(folder) == whole, f"stopped at operation {number}"
        if _stop.left >= 0:  # the call has ended before: every operation had its turn
            return number


def _restore(folder: Path, files: dict[str, bytes | None]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        if content is None:
            os.makedirs(folder / name, exist_ok=True)
        else:
            os.makedirs((folder / name).parent, exist_ok=True)
            (folder / name).write_bytes(content)
