"""An explorer that needs no kernel: maps over pictures, with a script of our own in one piece of HTML.

The same piece stands in JupyterLab and in the exported page; `show` puts it there. What depends on what is chosen is
an array with an axis for each choice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ...common.errors import PeftlabError
from ..style import DIVERGING, HEAT
from .packing import colors, pack, picture_url
from .part import part

Derived: TypeAlias = Literal["mean", "each"] | tuple[int, int]


@dataclass(frozen=True)
class Choice:
    """One thing to choose, and the labels along its axis.

    derived: further labels, for what is computed on the page: {"mean of heads": "mean", "all heads": "each" (side by
    side), "LoRA less frozen": (1, 0)}. first: the label at the start. by: the choice on which the labels depend; then
    values has one list of labels for each of its values. cells_from: from this number on the values are the cells of
    the picture, row by row, and are chosen by pointing at it.
    """

    name: str
    values: Sequence[Any]
    kind: Literal["buttons", "slider", "list", "words"] = "buttons"
    derived: Mapping[str, Derived] = field(default_factory=dict)
    first: Any = None
    by: str | None = None
    cells_from: int | None = None

    @property
    def size(self) -> int:
        return len(self.values[0] if self.by else self.values)

    def data(self) -> dict[str, Any]:
        labels = [*(self.values[0] if self.by else self.values), *self.derived]
        start = labels.index(self.first) if self.first is not None else 0
        rest = {"derived": list(self.derived.items()), "first": start, "by": self.by, "cellsFrom": self.cells_from}
        return {"name": self.name, "values": [*self.values], "kind": self.kind, "size": self.size} | rest


@dataclass(frozen=True)
class Table:
    """A line of numbers or texts, an axis for each choice of `by`; NaN or None where there is nothing to say."""

    label: str
    by: Sequence[str]
    values: Any
    form: Literal["percent", "number", "text"] = "number"

    def data(self) -> dict[str, Any]:
        array = np.asarray(self.values)
        flat = [None if value is None or value != value else value for value in array.ravel().tolist()]
        return {"label": self.label, "by": self.by, "values": flat, "form": self.form}


@dataclass(frozen=True)
class Explorer:
    """Pictures, maps over them, and what is said about each.

    pictures: (image, what it shows) for each combination of the choices named in `pictured`. maps: NaN where there is
    none; mapped: the choices that are their axes; unit: what one number of a map is; whole: what to call the sum of a
    map, if it says something. outlines: SVG paths in a square of 100 by 100, one for each picture; covered: the share
    of every cell within; inside: what to call the share of a map within. chart: bars along its last choice. strip:
    what stands in its place on paper. missing: said where there is no map.
    """

    title: str
    choices: Sequence[Choice]
    pictures: Sequence[tuple[Image.Image, str]]
    strip: Figure
    pictured: Sequence[str] = ()
    maps: Float[Tensor, "*choices rows columns"] | None = None
    mapped: Sequence[str] = ()
    unit: str = ""
    form: Literal["percent", "number"] = "percent"
    whole: str = ""
    outlines: Sequence[str] = ()
    covered: Float[Tensor, "pictures rows columns"] | None = None
    inside: str = ""
    facts: Sequence[Table] = ()
    chart: Table | None = None
    missing: str = "There is no such map."

    def data(self) -> dict[str, Any]:
        """What the script reads. Raises PeftlabError where an array does not have the axes that it should."""
        self._check()
        data: dict[str, Any] = {
            "title": self.title,
            "choices": [choice.data() for choice in self.choices],
            "pictures": {"by": self.pictured, "items": [[picture_url(image), says] for image, says in self.pictures]},
            "outlines": self.outlines,
            "facts": [fact.data() for fact in self.facts],
            "chart": self.chart and self.chart.data(),
            "missing": self.missing,
            "whole": self.whole,
            "inside": self.inside,
        }
        if self.maps is not None:
            data["maps"] = {"by": self.mapped, "unit": self.unit, "form": self.form} | pack(self.maps)
            data["colors"] = {"heat": colors(HEAT), "signed": colors(DIVERGING)}
        if self.covered is not None:
            data["covered"] = self.covered.flatten(1).mul(1000).round().int().tolist()
        return data

    def _check(self) -> None:
        sizes = {choice.name: choice.size for choice in self.choices}
        tables = [*self.facts, *([self.chart] if self.chart else [])]
        arrays = {table.label: (table.by, np.shape(table.values)) for table in tables}
        if self.maps is not None:
            arrays["maps"] = self.mapped, self.maps.shape[:-2]
        for name, (by, shape) in arrays.items():
            if list(shape) != (wanted := [sizes[choice] for choice in by]):
                axes = " x ".join(by)
                raise PeftlabError(f"{self.title}: {name} has axes of {list(shape)} for {axes}, which take {wanted}")
        if len(self.pictures) != (wanted_pictures := prod(sizes[choice] for choice in self.pictured)):
            raise PeftlabError(f"{self.title}: {len(self.pictures)} pictures for {wanted_pictures} choices")

    def html(self, says: str) -> str:
        """The explorer as HTML, its strip for paper and for pages without scripts included."""
        return part(self.data(), self.strip, says, "explorer.js", ["explorer.css"])
