"""The files of a class: which of them a build wrote, so that no build writes over what somebody changed."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from ...common.errors import DataError, PeftlabError
from ...common.files import OURS, read_json, sweep_parts, write_json, write_text

_WRITTEN = ".class.json"
Written = dict[str, list[str]]
"""{file: digests of what builds wrote there}; two digests where a build was stopped."""


def read_written(folder: Path) -> Written:
    """What earlier builds wrote into the folder. Raises PeftlabError for a file, and for a folder that others use."""
    try:
        return read_json(folder / _WRITTEN)
    except DataError:  # the first time, or damaged: then whatever is there counts as somebody's own
        if folder.exists() and not folder.is_dir():
            raise PeftlabError(f"{folder} is a file; name a folder for the class") from None
        if folder.is_dir() and any(not path.name.endswith(OURS) for path in folder.iterdir()):
            raise PeftlabError(f"{folder}: holds files that no build wrote. Name an empty or a new folder") from None
        return {}


def refuse_others(folder: Path, written: Written, names: Iterable[str]) -> None:
    """Raise PeftlabError where one of the files is there and is not, byte for byte, what a build wrote."""
    for name in names:
        file = folder / name
        if file.exists() and not (file.is_file() and _digest(file.read_bytes()) in written.get(name, [])):
            raise PeftlabError(
                f"{file}: was changed since a build wrote it, or no build did. Move it away, or name another folder"
            )


def write_files(folder: Path, texts: Mapping[str, str], written: Written) -> None:
    """Write files by name. Their digests are noted first, so that a build that was stopped can be given again."""
    new = {name: _digest(text.encode()) for name, text in texts.items()}
    folder.mkdir(parents=True, exist_ok=True)
    sweep_parts(folder)
    write_json(folder / _WRITTEN, written | {name: [*written.get(name, []), new[name]] for name in new})
    for name, text in texts.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        sweep_parts(file.parent)
        write_text(file, text)
    write_json(folder / _WRITTEN, written | {name: [digest] for name, digest in new.items()})


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
