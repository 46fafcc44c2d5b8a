"""Numbers, pictures and outlines as a page of HTML can carry them: short texts."""

import base64
import io
import zlib
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from PIL import Image
from skimage.measure import approximate_polygon, find_contours
from torch import Tensor


def pack(maps: Float[Tensor, "*choices rows columns"]) -> dict[str, Any]:
    """Maps as whole numbers from -127 to 127, each with a scale of its own, its largest absolute value; NaN: missing.

    So the error is at most 1/254 of the scale; and what is nearly 0 is 0, which deflates well.

    >>> packed = pack(torch.tensor([[[0.0, 0.5]], [[0.2, 0.1]]]))
    >>> packed["grid"], packed["signed"], (unpack(packed) * 10).round().tolist()
    ((1, 2), False, [[[0.0, 5.0]], [[2.0, 1.0]]])
    """
    flat = maps.float().flatten(-2)
    scales, signed = flat.abs().amax(-1), bool((flat < 0).any())
    codes = (flat / scales.clamp_min(1e-30)[..., None] * 127).nan_to_num().round().char().numpy()
    return {
        "grid": tuple(maps.shape[-2:]),
        "signed": signed,
        "scales": deflated(scales.numpy().astype("<f4").tobytes()),
        "codes": deflated(codes.tobytes()),
    }


def unpack(packed: dict[str, Any]) -> Float[Tensor, "maps rows columns"]:
    """What a page makes of packed maps, one after the other."""
    scales = np.frombuffer(zlib.decompress(base64.b64decode(packed["scales"])), "<f4")
    codes = np.frombuffer(zlib.decompress(base64.b64decode(packed["codes"])), "i1").reshape(-1, *packed["grid"])
    return torch.from_numpy(codes * (scales / 127)[:, None, None])


def deflated(data: bytes) -> str:
    """Deflated, as browsers can inflate it, in base64."""
    return base64.b64encode(zlib.compress(data, 9)).decode()


def colors(name: str) -> str:
    """256 colours of a matplotlib colour map, three bytes each, in base64."""
    table = np.round(255 * plt.get_cmap(name)(np.linspace(0, 1, 256))[:, :3]).astype("u1")
    return base64.b64encode(table.tobytes()).decode()


def picture_url(image: Image.Image) -> str:
    """An image as a data URI: a photograph as JPEG, a drawing, which has a palette, as PNG."""
    kind, buffer = ("PNG" if image.mode == "P" else "JPEG"), io.BytesIO()
    image.save(buffer, kind, quality=85, optimize=True)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def drawing(figure: Figure) -> Image.Image:
    """A figure as an image with a palette of 256 colours; the figure is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90, bbox_inches="tight")
    plt.close(figure)
    return Image.open(buffer).convert("RGB").quantize()


def outline(mask: Bool[Tensor, "height width"]) -> str:
    """The borders of a region, to half a pixel, as an SVG path in a square of 100 by 100."""
    height, width = mask.shape
    parts = []
    for ring in find_contours(np.pad(mask.numpy().astype(float), 1), 0.5):
        points = (approximate_polygon(ring, 0.5) - 0.5) / (height, width) * 100
        parts.append("M" + "L".join(f"{x:.0f} {y:.0f}" for y, x in points[:-1]) + "Z")
    return "".join(parts)
