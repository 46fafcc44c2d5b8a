"""The table of a comparison prints what the statistics give."""

import pandas as pd
import pytest

from peftlab.cli import main
from peftlab.results.statistics import averages, mean_interval
from peftlab.results.tables import comparison_table, markdown

ACCURACY = {"lora": (0.60, 0.62, 0.67), "linear": (0.70, 0.69, 0.71)}
TASKS = {"dtd": "natural", "eurosat": "specialized", "clevr_count": "structured"}


@pytest.fixture
def ledger():
    return pd.DataFrame(
        [
            {"label": m, "task": t, "group": g, "seed": s, "synthetic": False, "test_accuracy": a - 0.1 * len(t) / 9}
            for m, seeds in ACCURACY.items()
            for t, g in TASKS.items()
            for s, a in enumerate(seeds)
        ]
    ).assign(train_split="train800val200")


def test_means_intervals_and_both_averages(ledger):
    table = comparison_table(ledger)
    assert list(table.index) == ["linear", "lora"]  # the better first
    assert list(table.columns) == ["dtd", "eurosat", "clevr_count", "mean over tasks", "mean over groups"]
    mean, _, high = mean_interval(
        100 * ledger[(ledger["label"] == "lora") & (ledger["task"] == "dtd")]["test_accuracy"]
    )
    assert table.loc["lora", "dtd"] == f"{mean:.1f} ± {high - mean:.1f}"
    row = 100 * averages(ledger, "label").loc["lora"]
    shown = [row[f"mean over tasks{end}"] for end in ("", " low", " high")]
    assert table.loc["lora", "mean over tasks"] == "{:.1f} ({:.1f} to {:.1f})".format(*shown)


def test_a_table_is_in_the_order_of_the_mean_over_tasks():
    """Over groups, the second is ahead."""
    groups = {"dtd": "natural", "cifar": "natural", "eurosat": "specialized"}
    values = {"lora": (0.6, 0.6, 0.5), "linear": (0.5, 0.5, 0.65)}
    rows = [(m, t, g, v) for m, of in values.items() for (t, g), v in zip(groups.items(), of, strict=True)]
    runs = pd.DataFrame(rows, columns=["label", "task", "group", "test_accuracy"]).assign(seed=0, synthetic=False)
    assert list(comparison_table(runs).index) == ["lora", "linear"]


def test_no_average_of_what_is_incomplete_or_of_both_kinds(ledger):
    missing = comparison_table(ledger[1:-3])
    assert "mean over tasks" not in missing and missing.loc["linear", "clevr_count"] == ""
    both = comparison_table(ledger.assign(synthetic=ledger["task"] == "dtd"))
    assert "mean over tasks" not in both and "dtd (synthetic)" in both
    for seeds in ([0], [0, 1]):  # one seed has no interval, two have one that says nothing
        assert "±" not in comparison_table(ledger[ledger["seed"].isin(seeds)]).loc["lora", "dtd"]


def test_a_label_does_not_break_the_markdown(ledger):
    lines = markdown(comparison_table(ledger.replace({"lora": "lora|q,v\nwarm", "dtd": "a|b"}))).splitlines()
    assert len(lines) == 4 and lines[3].startswith("| `lora\\|q,v warm` | ") and "| a\\|b |" in lines[0]


def test_a_name_may_be_a_word_that_pandas_takes_for_no_value(ledger, tmp_path, capsys):
    ledger.replace({"lora": "None", "dtd": "NA"}).to_csv(tmp_path / "all.csv", index=False)
    assert main(["compare", str(tmp_path / "all.csv")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "| NA |" in lines[0] and lines[3].startswith("| `None` | ")


def test_command_prints_markdown_with_costs(ledger, tmp_path, capsys):
    tuning = ledger.assign(train_split="train800", test_accuracy=None)  # which is not compared
    pd.concat([tuning, ledger]).to_csv(tmp_path / "all.csv", index=False)
    costs = pd.DataFrame({"method": ["linear", "lora"], "parameters": [0, 36864], "gflops_training": [0.1, 0.3]})
    costs.assign(peak_mib=50, step_ms=12.3).to_csv(tmp_path / "costs.csv", index=False)
    assert main(["compare", str(tmp_path / "all.csv"), "--costs", str(tmp_path / "costs.csv")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| label | parameters | GFLOPs | MiB | ms | dtd |") and lines[1].count("---") == 10
    assert lines[3].startswith("| `lora` | 36,864 | 0.30 | 50 | 12 |")
    assert markdown(comparison_table(ledger)).count("\n") == 3
    assert main(["compare", str(tmp_path / "nowhere.csv")]) == 2
