"""Channel statistics of `peftlab_vit_mini` on images like those of its pre-training, for notebook 06.

    python tools/channel_statistics.py --images tiny_imagenet_64px_145_per_class.npz

Reads the validation part of the archive that tools/pretrain_backbone.py reads; only means and deviations are kept.
"""

import argparse

import numpy as np
import torch
from pretrain_backbone import decode

from peftlab.analysis.shift import channel_statistics
from peftlab.backbones.load import EMBEDDED, load_backbone
from peftlab.common.tensors import write_tensors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True)
    parser.add_argument("--limit", type=int, default=1000)
    args = parser.parse_args()
    archive = np.load(args.images, allow_pickle=False)
    data, offsets = archive["val_data"], archive["val_offsets"]
    rows = np.random.default_rng(0).permutation(len(offsets) - 1)[: args.limit]
    pixels = torch.from_numpy(np.stack([np.asarray(decode(data, offsets, row)) for row in rows]))
    statistics = channel_statistics(load_backbone(), pixels)
    file = EMBEDDED["peftlab_vit_mini"].with_name("peftlab_vit_mini_statistics.safetensors")
    write_tensors(file, {"statistics": statistics}, {"images": len(pixels), "of": "Tiny-ImageNet, validation part"})
    print(f"{file}: {tuple(statistics.shape)} from {len(pixels)} images")


if __name__ == "__main__":
    main()
