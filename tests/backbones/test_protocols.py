"""Protocols: what their hashes cover, which learning rate they give, and that the recipes are those of the search."""

import csv
import functools
import hashlib
import json
import statistics
from dataclasses import asdict, fields, replace

import pytest
from timm.data import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_INCEPTION_MEAN,
    IMAGENET_INCEPTION_STD,
)

from peftlab.backbones.protocols import NORMALISATIONS, PROTOCOLS, Preprocessing, Recipe, get_protocol
from peftlab.captioning.training import PROTOCOL as CAPTIONS
from peftlab.common.paths import REPOSITORY
from peftlab.methods import METHODS, create_method
from peftlab.results.ledger import run_id
from peftlab.results.published import read_results


def test_hash_covers_what_influences_a_result():
    short = get_protocol("short")
    assert replace(short, name="x", source="y", rates={}).hash == short.hash
    assert short.with_recipe(epochs=None).hash == short.hash
    assert short.with_recipe(lr=1e-3).hash != short.hash != short.with_recipe(epochs=5).hash
    assert replace(short, preprocessing=Preprocessing("bilinear")).hash != short.hash
    gist, ssf = PROTOCOLS["gist"], PROTOCOLS["ssf"]
    assert (gist.recipe, gist.preprocessing) == (ssf.recipe, ssf.preprocessing)  # of one code
    assert len({p.hash for p in PROTOCOLS.values()}) == len(PROTOCOLS) - 1


def test_committed_runs_keep_their_hash_and_their_name():
    """Fields that recipes did not have then stand at their default, and change neither."""
    first = [name for name in Recipe().content if name != "precision"]
    later = {f.name for f in fields(Recipe)} - {*first, "precision"}

    @functools.cache
    def protocol_and_old_hash(name, precision, *values):
        protocol = (PROTOCOLS | {"captions": CAPTIONS})[name].with_recipe(
            precision=precision, **dict(zip(first, map(json.loads, values), strict=True))
        )
        content = [asdict(protocol.preprocessing), {name: protocol.recipe.content[name] for name in first}]
        return protocol, hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    hashes, names = 0, 0
    for file in sorted((REPOSITORY / "results").glob("*.csv")):
        for row in csv.DictReader(file.open(encoding="utf-8")):
            if "protocol_hash" not in row:
                break
            if any(row.get(name) for name in later):
                continue  # made with one of them
            precision = (row.get("precision") or "auto").split(",")[0]
            protocol, old = protocol_and_old_hash(row["protocol"], precision, *(row[name] for name in first))
            # The first runs had no precision in their recipe.
            assert row["protocol_hash"] in (protocol.hash, old), (file.name, row["run"])
            hashes += 1
            if row["protocol_hash"] == protocol.hash:
                assert run_id(identity(row)) == row["run"], (file.name, row["run"])
                names += 1
    assert hashes > 1900 and names > 800


def identity(row):
    """What `RunSpec.identity` was, from the cells of a table."""
    texts = (
        "task data method options backbone weights probe normalisation start protocol train_split device "
        "precision protocol_hash peftlab language_model language_weights language_probe"
    ).split()
    texts += ["evaluated_each_epoch"] if row.get("evaluated_each_epoch") else []
    size = row["img_size"]
    return {name: row[name] for name in texts if name in row} | {
        "synthetic": row["synthetic"] == "True",
        "img_size": int(size) if size.isdigit() else size,
        "train_images": int(row["train_images"]),
        "seed": int(row["seed"]),
        "before": row["before"] or None,
    }


def test_released_recipes_are_those_of_their_scripts():
    """Of GIST's 19 tasks: 10 have this rate, 14 this decay, 9 this drop path; of SCT's, the medians."""
    gist, sct = PROTOCOLS["gist"].recipe, PROTOCOLS["sct"].recipe
    rates = [5e-3] * 10 + [2e-3] * 2 + [1e-2] * 3 + [1e-3, 5e-2, 3e-3, 2e-2]
    assert gist.lr == max(set(rates), key=rates.count) and gist.total_epochs == 110 and len(rates) == 19
    lr = [0.013, 0.006, 0.0032, 0.05, 0.0007, 0.075, 0.0017, 0.0072, 0.06, 0.01]
    lr += [0.004, 0.0033, 0.0018, 0.009, 0.0072, 0.003, 0.01, 0.0062, 0.0011]
    decay = [1, 0.35, 0.04, 0.11, 0.8, 0.03, 0.01, 0.002, 0.001, 0.01]
    decay += [0.0003, 0.01, 0.005, 0.1, 0.0001, 0.001, 0.05, 0.005, 0.0005]
    assert (sct.lr, sct.weight_decay) == (statistics.median(lr), statistics.median(decay))


@pytest.mark.parametrize(
    ("name", "images", "rates", "more"),
    [
        ("noah", ("bicubic", "imagenet"), (1e-3, 1e-4, 1e-5), {"drop_path": 0.1}),
        ("osu", ("bicubic", "none"), (1e-3, 1e-4, 1e-5), {"drop_path": 0.1}),
        ("gift", ("bilinear", "half"), (None, 1e-4, 1e-6), {"drop_path": 0.1}),
        ("gift_fgvc", ("bilinear", "half"), (None, 1e-4, 1e-6), {"drop_path": 0.1, "augmentation": "shift"}),
        ("gist", ("bicubic", "half"), (5e-3, 5e-5, 1e-8), {"cooldown_epochs": 10}),
        (
            "ssf_fgvc",
            ("bicubic", "half"),
            (1e-2, 0.05, 1e-8),
            {"cooldown_epochs": 10, "label_smoothing": 0.1, "augmentation": "crop"},
        ),
        (
            "sct",
            ("bicubic", "imagenet"),
            (6.2e-3, 0.01, 1e-5),
            {"drop_path": 0.1, "label_smoothing": 0.1, "augmentation": "randaugment"},
        ),
    ],
)
def test_what_stands_in_the_scripts_of_others(name, images, rates, more):
    """A hundred epochs of batches of 64 with ten to warm up; rates: lr, weight decay and the least lr."""
    protocol = PROTOCOLS[name]
    assert protocol.preprocessing == Preprocessing(*images)
    lr, decay, least = rates
    assert protocol.recipe == Recipe(100, 64, lr, decay, warmup_epochs=10, min_lr=least, **more)


def test_ours_are_what_runs_without_further_words_were_trained_by():
    assert get_protocol("peftlab").recipe == Recipe(20, 64, None, 1e-4, 2, 1e-5, 0.0, "auto")
    assert get_protocol("short").recipe == Recipe(4, 16, None, 1e-4, 1, 1e-5, 0.0, "auto")


def test_normalisations_are_those_of_timm():
    known = {"imagenet": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)}
    known["half"] = (IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD)
    assert NORMALISATIONS == known | {"none": ((0, 0, 0), (1, 1, 1))}


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
