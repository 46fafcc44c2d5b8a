"""An image set of Hugging Face's `datasets` library as a task: in memory, or a folder that `save_to_disk` wrote.

Its columns are found by their type: one `Image`, one `ClassLabel`. Of a `DatasetDict`, train, validation and test are
used as they are. Nothing is fetched from a network.
"""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ...common.errors import DataError, PeftlabError
from ..task import Task
from .entries import SPLIT_NAMES, Entry, Stored, Tell, make_task, refuse


def dataset_task(data: Any, budget: int | None = None, seed: int = 0) -> Task:
    """The task of a `datasets.Dataset` or `DatasetDict`, split as `make_task` says.

    Raises PeftlabError for any other object, DataError as `read_dataset` and `make_task` do.
    """
    parts = data.values() if isinstance(data, dict) else [data]
    names = {str(part.info.dataset_name) for part in parts if getattr(part, "info", None) and part.info.dataset_name}
    place = names.pop() if len(names) == 1 else "dataset"
    return make_task(place, read_dataset(data, place), budget, seed)


def was_saved(place: Path) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    one = all(os.path.isfile(place / name) for name in ("dataset_info.json", "state.json"))
    return one or os.path.isfile(place / "dataset_dict.json")


def read_saved(place: Path, tell: Tell = refuse) -> list[Entry]:
    """The images of a folder that `save_to_disk` wrote. Raises DataError where it is damaged."""
    library = _library(place)
    try:
        data = library.load_from_disk(str(place))
    except Exception as error:  # arrow, JSON, missing files
        raise DataError(f"{place}: cannot be read by datasets ({error}). Write it again by save_to_disk") from None
    return read_dataset(data, place, tell)


def read_dataset(data: Any, place: str | Path, tell: Tell = refuse) -> list[Entry]:
    """The images of a `Dataset` or `DatasetDict`, none of them decoded. place: what messages call it.

    Raises DataError, naming part or column and the fix: no image column or several, no classes, other names of parts.
    """
    library = _library(place)
    if isinstance(data, library.DatasetDict):
        if odd := [name for name in data if name.lower() not in SPLIT_NAMES]:
            raise DataError(f"{place}: part {odd[0]!r} is none of train, validation, test. Rename it, or leave it out")
        parts = {name: SPLIT_NAMES[name.lower()] for name in data}
        return [entry for name in data for entry in _rows(data[name], f"{place}, {name}", parts[name], library, tell)]
    if isinstance(data, library.Dataset):
        return list(_rows(data, str(place), None, library, tell))
    if isinstance(data, (library.IterableDataset, library.IterableDatasetDict)):
        raise DataError(f"{place}: a stream. Load it without streaming=True, or take some: Dataset.from_list(...)")
    raise PeftlabError(f"a task is a name, a path, or a datasets.Dataset, not an object of type {type(data).__name__}")


def _library(place: object) -> Any:
    try:
        import datasets
    except ImportError:
        raise PeftlabError(
            f"{place}: to read an image set of Hugging Face, install its library: pip install 'peftlab[datasets]'"
        ) from None
    return datasets


def _rows(part: Any, place: str, split: str | None, library: Any, tell: Tell) -> Iterator[Entry]:
    """The images of one part with their labels."""
    picture = _column(part, library.Image, "images", place)
    label = _column(part, library.ClassLabel, "classes", place)
    names = part.features[label].names
    labels = part.with_format(None)[label]
    encoded = part.with_format(None).select_columns([picture]).cast_column(picture, library.Image(decode=False))
    for i, number in enumerate(labels):
        where = f"{place}, row {i}"
        if number is None or number < 0:
            tell(f"{where}: no label ({number}). Leave the rows without labels out: data.filter(...)")
            continue
        yield Entry(Stored(where, partial(_encoded, encoded, i, where)), names[number], split)


def _column(part: Any, kind: type, of: str, place: str) -> str:
    """The only column of a type."""
    found = [name for name, feature in part.features.items() if isinstance(feature, kind)]
    if len(found) == 1:
        return found[0]
    if found:
        columns = " and ".join(found)
        raise DataError(
            f"{place}: columns {columns} are both {kind.__name__}. Take out the other: remove_columns(...)"
        )
    method = "class_encode_column" if of == "classes" else "cast_column"
    raise DataError(
        f"{place}: no column of type {kind.__name__} ({', '.join(part.features)}), so its {of} are unknown. "
        f"Say which it is: data.{method}(...)"
    )


def _encoded(rows: Any, i: int, where: str) -> bytes:
    """The encoded image of a row of one column; it stands in the table or in a file."""
    (picture,) = rows[i].values()
    if picture is None or picture["bytes"] is picture["path"] is None:
        raise DataError(f"{where}: no image. Leave the rows without images out: data.filter(...)")
    if picture["bytes"] is not None:
        return bytes(picture["bytes"])
    try:
        return Path(picture["path"]).read_bytes()
    except OSError as error:
        raise DataError(f"{where}: {picture['path']} cannot be read ({error.strerror}). Restore the file") from None
