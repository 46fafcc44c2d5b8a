"""Which method works on which family of backbones: writes the table of docs/backbones.md.

python tools/families.py [--check]

Each method is put on two blocks of a model of each family at random weights, trained for two steps and merged.
"""

import argparse
from pathlib import Path

import timm
import torch
from torch.nn import functional as F

from peftlab.common.errors import NotMergeable, PeftlabError
from peftlab.methods import METHODS, attach, create_method

PAGE = Path(__file__).resolve().parents[1] / "docs" / "backbones.md"
BEGIN, END = "<!-- made by tools/families.py -->", "<!-- end -->"

FAMILIES = {
    "ViT": ("vit_small_patch16_224", {"img_size": 64, "depth": 2}),
    "DINOv3": ("vit_small_patch16_dinov3", {"img_size": 64, "depth": 2}),
    "DINOv3, qkv bias": ("vit_tiny_patch16_dinov3_qkvb", {"img_size": 64, "depth": 2}),
    "EVA-02": ("eva02_small_patch14_224", {"img_size": 56, "depth": 2}),
    "Perception Encoder": ("vit_pe_core_tiny_patch16_384", {"img_size": 64, "depth": 2}),
    "RoPE-ViT": ("vit_small_patch16_rope_mixed_224", {"img_size": 64, "depth": 2}),
    "Swin": ("swin_tiny_patch4_window7_224", {"img_size": 56, "depths": (2, 2)}),
}


def random_model(family: str) -> torch.nn.Module:
    """Two blocks of a family, with random values also where timm begins with 0 or 1."""
    name, options = FAMILIES[family]
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0, **options).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p), alpha=0.02)
    return model


def outcome(backbone: torch.nn.Module, name: str) -> str:
    """ "yes", "yes, merges", or why not."""
    try:
        model = attach(backbone, name, 3)
    except PeftlabError as error:
        return f"no: {error}"
    x = torch.randn(2, 3, *model.backbone.patch_embed.img_size)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(model(x), torch.arange(2)).backward()
        optimizer.step()
    if create_method(name).not_mergeable:
        return "yes"
    try:
        same = torch.allclose(model.merge()(x), model(x), atol=1e-4)
    except NotMergeable as error:
        return f"yes, but not merged: {error}"
    return "yes, merges" if same else "WRONG"


def table() -> str:
    """Markdown: a row a method, a column a family; the reasons below, numbered."""
    reasons: dict[str, int] = {}
    rows = ["| Method | " + " | ".join(FAMILIES) + " |", "|---" * (len(FAMILIES) + 1) + "|"]
    models = {family: random_model(family) for family in FAMILIES}
    for name in sorted(METHODS):
        cells = []
        for backbone in models.values():
            answer, _, reason = outcome(backbone, name).partition(": ")
            cells.append(f"{answer} ({reasons.setdefault(reason, len(reasons) + 1)})" if reason else answer)
        rows.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join([*rows, "", *(f"{number}. {reason}." for reason, number in reasons.items())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    check = parser.parse_args().check
    text = PAGE.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    new = f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"
    if check and new != text:
        raise SystemExit(f"{PAGE} is not what tools/families.py writes; run it without --check")
    PAGE.write_text(new)


if __name__ == "__main__":
    main()
