"""Adapters that an earlier version wrote are read by this one and compute the same. golden_adapters.py wrote them."""

import json
import re
import warnings

import pytest
import torch
from golden_adapters import CLASSES, FOLDER, LOGITS, SIZES, backbone, computed

from peftlab.common.errors import PeftlabError
from peftlab.methods import METHODS, load_adapter

EXPECTED = json.loads(LOGITS.read_text()) if LOGITS.exists() else {}


def test_every_method_has_one():
    missing = sorted(METHODS.keys() - EXPECTED.keys())
    assert missing == [], "add them: PYTHONPATH=tests python tests/golden_adapters.py"
    assert {folder.name for folder in FOLDER.iterdir() if folder.is_dir()} == EXPECTED.keys()
    assert sum(file.stat().st_size for file in FOLDER.rglob("*")) < 500_000


@pytest.mark.parametrize("name", EXPECTED)
def test_it_computes_what_it_did(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = computed(name, SIZES[0])
    torch.testing.assert_close(torch.tensor(found), torch.tensor(EXPECTED[name][str(SIZES[0])]), atol=1e-5, rtol=1e-5)
    assert load_adapter(backbone(SIZES[0]), FOLDER / name).classes == CLASSES


@pytest.mark.parametrize("name", EXPECTED)
def test_at_another_input_size_it_does_too(name):
    trained, used = (f"{size} x {size}" for size in SIZES)
    with pytest.warns(UserWarning, match=re.escape(f"{name}: trained at {trained} px, used at {used}")):
        found = computed(name, SIZES[1])
    torch.testing.assert_close(torch.tensor(found), torch.tensor(EXPECTED[name][str(SIZES[1])]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", EXPECTED)
def test_on_another_backbone_it_is_refused(name):
    vit = backbone(SIZES[0])
    with torch.no_grad():
        vit.norm.bias[0] += 1
    with pytest.raises(PeftlabError, match=re.escape(str(FOLDER / name / "adapter.json")) + ".*Load that backbone"):
        load_adapter(vit, FOLDER / name)
