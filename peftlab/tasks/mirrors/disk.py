"""What a disk refuses, said so that it is not taken for a network fault."""

import errno
import shutil

from ...common.errors import PeftlabError


def on_disk(folder, write, *args, **options):
    """Call write(...); what the disk refuses becomes a PeftlabError, so that it is not taken for a network fault."""
    try:
        return write(*args, **options)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PeftlabError(
                f"{folder}: the disk is full. Free some space, or move the cache with PEFTLAB_CACHE, and fetch again"
            ) from None
        raise PeftlabError(f"{folder}: cannot write here ({error}). Fix that, or set PEFTLAB_CACHE") from None


def require_space(folder, needed):
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise PeftlabError(
            f"{folder}: {needed / 1e9:.2f} GB needed, the disk has {free / 1e9:.2f} GB free. "
            "Free some space, or move the cache with PEFTLAB_CACHE"
        )
