"""Methods that are registered in a script or a notebook: their code is part of what identifies a run."""

import pytest
from own_method import SCRIPT, run_script

from peftlab.backbones.load import load_backbone
from peftlab.methods import METHODS, attach, create_method
from peftlab.methods.core.own_code import own_code, own_methods
from peftlab.training.spec import make_spec


@pytest.fixture(autouse=True)
def nothing_stays():
    yield
    METHODS.pop("gate", None)


def test_what_is_ours_has_no_code():
    assert not any(own_code(create_method(name)) for name in METHODS) and not own_methods()


CHANGES = {
    "STRENGTH = 1.0": "STRENGTH = 3.0",
    "(1 + ": "(2 + ",
    "torch.full(": "torch.ones(1).new_full(",
    "), 0.0)": "), 0.5)",
    "power=1": "power=2",
    "STRENGTH < 10": "STRENGTH < 9",
}


@pytest.mark.parametrize(("old", "new"), CHANGES.items())
def test_a_method_of_ones_own_is_named_by_its_code(old, new, tiny_task):
    vit = load_backbone("test_vit", pretrained=False, img_size=64)
    specs = []
    for text in (SCRIPT, "# moved\n" + SCRIPT.replace("NOT_USED = 1", "NOT_USED = 2"), SCRIPT.replace(old, new)):
        method = run_script(text)
        assert own_code(create_method("gist", base_method="gate")) == own_code(method)
        specs.append(make_spec(attach(vit, method, 3), tiny_task, epochs=1))
        assert specs[-1].identity["code"] == specs[-1].code
    first, moved, changed = specs
    assert first.code == moved.code != changed.code and first.name == moved.name != changed.name
