"""What a disk refuses, said so that it is not taken for a network fault."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from ...common.errors import PeftlabError

P = ParamSpec("P")
T = TypeVar("T")


def on_disk(folder: Path, write: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Call write(...) and return its result; what the disk refuses becomes a PeftlabError.

    >>> def write() -> None:
    ...     raise OSError(errno.ENOSPC, "No space left on device")
    >>> on_disk(Path("data"), write)
    Traceback (most recent call last):
    peftlab.common.errors.PeftlabError: data: the disk is full. ...
    """
    try:
        return write(*args, **options)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PeftlabError(
                f"{folder}: the disk is full. Free some space, or move the cache with PEFTLAB_CACHE, and fetch again"
            ) from None
        raise PeftlabError(f"{folder}: cannot write here ({error}). Fix that, or set PEFTLAB_CACHE") from None
