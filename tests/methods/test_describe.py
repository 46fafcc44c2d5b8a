"""What the command line, the reference and notebooks say of a method."""

from dataclasses import dataclass

import pytest

from peftlab.cli import main
from peftlab.common.errors import PeftlabError
from peftlab.methods import METHODS, Method, create_method, register
from peftlab.methods.core.describe import options, source


@pytest.mark.parametrize("name", METHODS)
def test_every_method_shows_its_equation_beside_its_code(name):
    shown = source(name)
    assert "Source:" in shown.text and "Parameters" in shown.text and ("Equation:" in shown.text or name == "full")
    assert "def " in shown.code and shown.title in shown._repr_markdown_()
    compile("\n\n".join(part for part in [shown.code]), name, "exec")  # whole functions, rightly indented


def test_what_the_code_calls_is_shown_too():
    assert "def kl(" in source("gist").code and "def l2(" in source("gift").code
    assert source("gift").code.index("def assignment(") < source("gift").code.index("def attention(")


def test_an_equation_in_several_lines_stays_so():
    shown = source("context_peft")._repr_markdown_()
    assert "<br>\n  lora    y = W x" in shown and "<br>\n  bitfit  y = W x" in shown


@pytest.mark.parametrize("name", METHODS)
def test_every_option_has_a_line_of_text(name):
    table = options(name)
    assert set(table["option"]) == set(create_method(name).options()) - set(
        create_method(name).base_method.options() if name == "gist" else ()
    )
    assert all(text in METHODS[name].__doc__ for text in table["what it does"])  # help and the reference show them
    assert (table["what it does"].str.len() > 5).all() and not table["what it does"].str.contains("\n").any()


def test_choices_and_ranges_are_shown():
    values = options("fact").set_index("option")["values"].to_dict()
    assert values == {"rank": "at least 1", "form": "tt tk", "scale": "finite", "last_blocks": "at least 1"}
    assert "- `rank` (int, at least 1): " in METHODS["fact"].__doc__ and "(float, finite)" in METHODS["fact"].__doc__


def test_an_option_without_a_text_is_refused():
    @dataclass(frozen=True)
    class Silent(Method):
        width: int = 3
        title = idea = source = "silent"
        family, lr = "additive", 1e-3

    with pytest.raises(PeftlabError, match="Silent: no text for width"):
        register("silent")(Silent)


def test_choices_are_checked_wherever_a_method_is_made():
    with pytest.raises(PeftlabError, match="unknown budget 'layers'; did you mean 'layer'"):
        METHODS["two_stage"](budget="layers")


def test_the_command_shows_one_method(capsys):
    assert main(["methods", "lora"]) == 0
    out = capsys.readouterr().out
    assert "y = W x + b + (alpha / rank) B A x" in out
    assert "inner width of the product" in out and "at least 1" in out
    assert main(["methods", "lorra"]) == 2 and "did you mean 'lora'" in capsys.readouterr().err
