"""Make docs/overview.png, the picture at the top of the README: what attention looks like before and after tuning.

    python tools/overview.py

Photographs come with libraries, the tuned models with the workbook (data/adapters). Seconds.
"""

import torch

from peftlab import load_backbone, load_run, photographs, views
from peftlab.common.paths import REPOSITORY

SIDE = 448  # pixels, 32 x 32 patches


def main():
    shown = photographs("hopper", "rocket")
    pixels, masks = (torch.cat([getattr(p, kind)((SIDE, SIDE)) for p in shown]) for kind in ("pixels", "mask"))
    lora, gist = (load_run(f"oxford_iiit_pet-{name}", SIDE).model for name in ("lora", "gist_lora"))
    sources = {
        "frozen ViT-S/14: CLS": (load_backbone("peftlab_vit_small", img_size=SIDE), "cls"),
        "tuned with LoRA: CLS": (lora, "cls"),
        "tuned with GIST: its token": (gist, "gist"),
    }
    figure = views.attention_grid(sources, pixels, masks)
    share = lora.method_parameters / sum(p.numel() for p in lora.backbone.parameters())
    figure.suptitle(
        f"{share:.1%} of the weights, tuned on cats and dogs: attention leaves the background", fontsize=14
    )
    out = REPOSITORY / "docs" / "overview.png"
    figure.savefig(out, dpi=110, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    main()
