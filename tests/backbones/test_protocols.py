"""Protocols: what their hashes cover, which learning rate they give, and that the recipes are those of the search."""

from dataclasses import replace

from peftlab.backbones.protocols import PROTOCOLS, Preprocessing, get_protocol
from peftlab.methods import METHODS, create_method
from peftlab.results.published import read_results


def test_hash_covers_what_influences_a_result():
    short = get_protocol("short")
    assert replace(short, name="x", source="y", rates={}).hash == short.hash
    assert short.with_recipe(epochs=None).hash == short.hash
    assert short.with_recipe(lr=1e-3).hash != short.hash != short.with_recipe(epochs=5).hash
    assert replace(short, preprocessing=Preprocessing("bilinear")).hash != short.hash
    assert len({p.hash for p in PROTOCOLS.values()}) == len(PROTOCOLS)


def test_learning_rates_in_their_order():
    short, lora = get_protocol("short"), create_method("lora")
    assert short.with_recipe(lr=0.3).learning_rate(lora) == 0.3
    assert short.learning_rate(lora) == short.rates["lora"]
    assert get_protocol("peftlab").learning_rate(lora) == lora.lr
    gist = create_method("gist", base_method="norm")
    assert short.learning_rate(gist) == short.rates["norm"] != create_method("norm").lr


def test_rates_are_of_methods_that_there_are():
    """A method without one trains at its own default, so that a new method need not be named here."""
    assert set(get_protocol("short").rates) <= set(METHODS)
    dora = create_method("dora")
    assert get_protocol("short").learning_rate(dora) == dora.lr


def test_recipes_are_what_the_search_found():
    search = read_results("comparison")
    search = search[search["train_split"] == "train800"]
    assert set(search["task"]) == {"dtd", "eurosat", "dsprites_loc"} and search["test_accuracy"].isna().all()
    means = search.groupby(["label", "lr"])["val_accuracy"].mean()
    rates = get_protocol("short").rates
    for label, rate in means.groupby("label").idxmax():
        assert rates[label.removeprefix("gist ")] == rate
