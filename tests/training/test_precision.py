"""Devices: those that there are, and a sentence for those that are not."""

import pytest
import torch

from peftlab.common.errors import PeftlabError
from peftlab.training.precision import devices, pick_device


@pytest.mark.parametrize(
    "device", ["foo", "", "meta", "cpu:7", "cuda:99", "cuda:-1", "mps:3", "CPU", torch.device("meta")]
)
def test_a_device_that_is_not_there_is_said_with_those_that_are(device):
    with pytest.raises(PeftlabError, match=f"no device '{device}'.*Known: .*cpu"):
        pick_device(device)


def test_every_device_that_is_there_is_taken(monkeypatch):
    assert pick_device("cpu") == pick_device(torch.device("cpu")) == torch.device("cpu")
    assert pick_device("cpu:0").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert devices() == ["cuda", "cuda:1", "cpu"] and pick_device() == torch.device("cuda")
    assert pick_device("cuda:0") == torch.device("cuda:0") and pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(PeftlabError, match="no device 'cuda:2'.*Known: cpu, cuda, cuda:1"):
        pick_device("cuda:2")
