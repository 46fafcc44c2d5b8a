"""Channel statistics, their distance, and the reference that comes with the embedded backbone."""

import pytest
import torch

from peftlab.analysis import shift
from peftlab.backbones.load import load_backbone
from peftlab.backbones.preprocess import prepare_for
from peftlab.common.errors import PeftlabError

PIXELS = torch.randint(0, 256, (5, 64, 64, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize("name", ["test_vit", "test_vit2"])
def test_statistics_are_those_of_the_patches_that_attention_reads(name):
    vit, seen = load_backbone(name, pretrained=False, img_size=64), []
    hook = vit.blocks[1].attn.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    vit.forward_features(prepare_for(vit, PIXELS))
    hook.remove()
    patches = seen[0][:, vit.num_prefix_tokens :].flatten(0, 1)
    found = shift.channel_statistics(vit, PIXELS)
    assert found.shape == (len(vit.blocks), 2, 64)
    torch.testing.assert_close(found[1], torch.stack([patches.mean(0), patches.std(0)]))
    assert not vit.blocks[0].norm1._forward_hooks


def test_distance_is_zero_to_itself_and_counted_in_deviations():
    reference = torch.rand(3, 2, 8) + 0.5
    assert not shift.distance(reference, reference).any()
    moved = reference.clone()
    moved[:, 0] += 2 * reference[:, 1]  # every mean by two deviations
    torch.testing.assert_close(shift.distance(moved, reference), torch.full((3,), 2.0))
    moved[:, :, :3] = 1e6  # three channels of eight do not rule it
    torch.testing.assert_close(shift.distance(moved, reference), torch.full((3,), 2.0))
    wider = reference.clone()
    wider[1, 1] *= 4
    torch.testing.assert_close(shift.distance(wider, reference), torch.tensor([0.0, 3.0, 0.0]))


def test_the_reference_belongs_to_the_embedded_backbone():
    reference = shift.reference_statistics()
    assert reference.shape == (6, 2, 192) and (reference[:, 1] > 0).all()
    noise = shift.distance(shift.channel_statistics(load_backbone(), PIXELS), reference)
    assert (noise > 0.3).all()
    for name in ("vit_base", "peftlab_vit_small"):
        with pytest.raises(PeftlabError, match=f"no statistics of {name}"):
            shift.reference_statistics(name)
