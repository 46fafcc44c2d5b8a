"""Where a method acts in a block, drawn. Everything is read off the tuned model, so a new method draws itself.

>>> from peftlab.backbones.load import load_backbone
>>> from peftlab.methods import attach
>>> block(attach(load_backbone(), "lora", num_classes=2, rank=4)).get_title(loc="left")
'LoRA: 3,072 in this block'
"""

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch, Rectangle
from matplotlib.typing import ColorType

from ..analysis.changes import block_changes
from ..common.errors import check_index
from ..methods.core.model import PeftModel
from .style import PALETTE, axes_or_new, bare

FROZEN, TUNED, NEW = "0.88", PALETTE[1], PALETTE[0]
# Left edge, width and text of each box; what is trained elsewhere in a block is written below the picture.
BOXES = {
    "norm1": (1.4, 0.7, "LN"),
    "attn.qkv": (2.5, 0.9, "qkv"),
    "": (3.68, 1.52, "attention"),
    "attn.proj": (5.5, 0.9, "proj"),
    "norm2": (7.5, 0.7, "LN"),
    "mlp.fc1": (8.6, 0.9, "fc1"),
    "mlp.act": (9.85, 1.0, "GELU"),
    "mlp.fc2": (11.2, 0.9, "fc2"),
}
SPANS = {path: (left, left + width) for path, (left, width, _) in BOXES.items()}
SPANS |= {"attn": (2.5, 6.4), "mlp": (8.6, 12.1)}
SUMS, END = (6.9, 12.6), 13.2


def block(model: PeftModel, index: int = -1, ax: Axes | None = None) -> Axes:
    """One block of a tuned model from left to right: frozen parts grey, tuned ones orange, new ones blue -> Axes.

    A low orange strip means that only the bias is tuned. A blue bar stands in line with the module it touches, a blue
    box below runs parallel to the modules it spans. The tokens stand at the left, CLS on top.
    """
    ax = bare(axes_or_new(ax, (6.4, 1.5)))
    check_index("index", index, len(model.vit.blocks))
    changes = block_changes(model, index)
    ax.plot([0.2, END], [0, 0], color="0.5", linewidth=1, zorder=0)
    for start, stop in ((1.1, SUMS[0]), (7.2, SUMS[1])):
        ax.plot([start, start, stop, stop], [0, 0.85, 0.85, 0], color="0.5", linewidth=1, zorder=0)
        ax.text(stop, 0, "+", ha="center", va="center", bbox={"boxstyle": "circle,pad=0.1", "fc": "white"})
    for left, width, text in BOXES.values():
        _box(ax, left, 0, width, FROZEN, text)
    shared = sorted({n.split(".shared.")[1].split(".")[0] for n, _ in model.vit.named_parameters() if ".shared." in n})
    notes = [f"{', '.join(shared)} shared by all blocks"] if shared else []
    tokens: list[ColorType] = ["0.6"] * 4  # from below: patches, and CLS on top
    for (path, role), names in changes.items():
        if role in ("prompts", "gist"):
            tokens.insert(3, NEW)
        elif role == "channels":  # on the residual stream, between attention and MLP
            ax.add_patch(Rectangle((SUMS[0] + 0.12, -0.3), 0.14, 0.6, color=NEW, zorder=3))
        elif role == "shared":
            continue
        elif path not in (BOXES if role == "tuned" else SPANS):
            notes.append(f"also {path}")
        elif role == "tuned":
            _tuned(ax, path, names)
        elif role == "parallel":
            for span in [SPANS[path]] if path else [(1.3, 6.7), (7.4, 12.4)]:
                _parallel(ax, *span)
        else:
            x = SPANS[path][0] - 0.24 if role == "before" else SPANS[path][1] + 0.04
            ax.add_patch(Rectangle((x, -0.45), 0.2, 0.9, color=NEW, zorder=3))
    for row, color in enumerate(tokens):
        ax.add_patch(Rectangle((0.25, 0.22 * row - 0.4), 0.35, 0.14, color=color))
    trained = sum(p.numel() for p in model.vit.blocks[index].parameters() if p.requires_grad)
    ax.set_title(f"{model.method.title}: {trained:,} in this block", loc="left")
    ax.text(END, -1.32, "; ".join(notes), ha="right", va="center")  # away from the title of a block below
    ax.set(xlim=(0, END + 0.2), ylim=(-1.5, 1.05))
    return ax


def blocks(models: Sequence[PeftModel], columns: int = 2) -> Figure:
    """`block` for several tuned models, with one legend -> Figure."""
    rows = -(-len(models) // columns)
    size = (6 * columns, 1.35 * rows + 0.3)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for ax in axes.flat[len(models) :]:
        ax.axis("off")
    for model, ax in zip(models, axes.flat, strict=False):
        block(model, ax=ax)
    kinds = {"frozen": FROZEN, "tuned in place (strip: bias only)": TUNED, "new and trained": NEW}
    handles = [Patch(facecolor=color, edgecolor="0.4", label=label) for label, color in kinds.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _box(
    ax: Axes, left: float, middle: float, width: float, color: ColorType, text: str = "", height: float = 0.7
) -> None:
    shape = FancyBboxPatch((left, middle - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.1")
    shape.set(facecolor=color, edgecolor="0.4", linewidth=0.8)
    ax.add_patch(shape)
    ax.text(left + width / 2, middle, text, ha="center", va="center")


def _tuned(ax: Axes, path: str, names: Iterable[str]) -> None:
    left, width, _ = BOXES[path]
    if all(name.endswith("bias") for name in names):
        ax.add_patch(Rectangle((left, -0.35), width, 0.17, color=TUNED))
    else:
        _box(ax, left, 0, width, TUNED)


def _parallel(ax: Axes, left: float, right: float) -> None:
    ax.plot([left - 0.15, left - 0.15, right + 0.15, right + 0.15], [0, -0.8, -0.8, 0], color=NEW, linewidth=1.2)
    middle = (left + right) / 2
    _box(ax, middle - 0.45, -0.8, 0.9, NEW, height=0.45)
