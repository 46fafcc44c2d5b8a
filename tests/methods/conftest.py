"""Which contracts wait for `-m long`."""

import pytest

MET_BY_ALL = ("embedded", "registers, mean pooled", "EVA-02")  # a plain ViT, one that averages, one that rotates


@pytest.hookimpl(tryfirst=True)  # before the marks are looked at
def pytest_collection_modifyitems(items):
    """Every method meets every backbone; what options make another one of it meets three, and with `long` all."""
    from peftlab.methods import METHODS  # not earlier: the tests' annotations are checked from its import on

    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        method, backbone = params.get("method"), params.get("backbone")
        if item.path.stem == "test_contracts" and isinstance(method, str) and isinstance(backbone, str):
            if method not in METHODS and backbone not in MET_BY_ALL:
                item.add_marker(pytest.mark.long)
