"""What identifies a backbone, asked many times of one that nobody changes."""

import pytest
import torch
from support import small_vit, tuned

import peftlab.backbones.identity as identity
from peftlab.backbones.identity import describe, described_once, digest, fingerprint, probe


def test_described_once(monkeypatch):
    """Within, the weights are read once; afterwards, also after an exception, a change of theirs is seen again."""
    vit = small_vit()
    expected, probed = describe(vit), []
    monkeypatch.setattr(identity, "probe", lambda vit, probe=identity.probe: probed.append(vit) or probe(vit))
    with pytest.raises(KeyError), described_once(vit):
        assert describe(vit) == describe(vit) == expected and len(probed) == 1
        raise KeyError
    with torch.no_grad():
        vit.norm.weight.add_(1)
    assert describe(vit)["weights"] != expected["weights"] and len(probed) == 2


def test_described_once_within_itself(monkeypatch):
    vit, probed = small_vit(), []
    monkeypatch.setattr(identity, "probe", lambda vit, probe=identity.probe: probed.append(vit) or probe(vit))
    with described_once(vit):
        with described_once(vit):
            describe(vit)
        describe(vit)
        assert len(probed) == 1
    describe(vit)
    assert len(probed) == 2


def test_a_digest_is_over_names_bytes_and_more():
    zeros = torch.zeros(2)
    found = [digest({"A": zeros}), digest({"B": zeros}), digest({"A": zeros.half()}), digest({"A": zeros}, ["A"])]
    assert len(set(found)) == 4


def test_a_merged_model_is_not_described_as_its_backbone():
    vit = small_vit()
    with described_once(vit):
        plain = tuned(vit, "lora").merge()
    assert describe(plain)["weights"] != describe(vit)["weights"]


def test_how_patches_are_cut_is_part_of_what_a_backbone_computes():
    vit, other = small_vit(), small_vit()
    other.patch_embed.proj.dilation = (2, 2)
    assert fingerprint(vit) == fingerprint(other) and probe(vit) != probe(other)
