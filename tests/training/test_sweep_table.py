"""A sweep's table is its checkpoint: what it has is done, it grows with every run, and no number in it is lost."""

import csv
import multiprocessing
import os
import shutil
import signal

import pandas as pd
import pytest
import torch
import yaml
from campaign import CLASSES, NOT_COMPARED, make_world
from faults import STOPS, stopped_everywhere
from support import make_task

import peftlab.training.plan as plan
import peftlab.training.sweep as sweeping
from peftlab.cli import main
from peftlab.common.errors import DataError, PeftlabError
from peftlab.results.ledger import read_ledger
from peftlab.results.predictions import correct, table_file
from peftlab.training.estimate import estimate, seconds_an_image
from peftlab.training.grid import read_grid
from peftlab.training.sweep import sweep
from peftlab.training.sweep_table import SweepTable, read_cells

LINEAR = {"linear": {}}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two tasks, a backbone and a grid, two seeds, linear (tuned) and two_stage; swept once, with its table."""
    folder = tmp_path_factory.mktemp("world")
    make_world(folder, seeds=(0, 1))
    make_task(folder / "root" / "dtd", CLASSES, seed=1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("peftlab.tasks.files.cache_folder", lambda: folder / "cache")
        sweep(read_grid(folder / "grid.yaml"), folder / "runs", table=folder / "whole.csv")
    yield folder
    torch.set_num_threads(threads)


@pytest.fixture
def table(world, tmp_path):
    """A copy of the whole table; the ledgers of the tests are other ones, and empty."""
    return shutil.copy(world / "whole.csv", tmp_path / "all.csv")


@pytest.fixture
def grid(world, tmp_path):
    """The grid with some keys replaced."""
    content = yaml.safe_load((world / "grid.yaml").read_text())

    def changed(**changes):
        (tmp_path / "grid.yaml").write_text(yaml.safe_dump(content | changes))
        return read_grid(tmp_path / "grid.yaml")

    return changed


@pytest.fixture
def trained(monkeypatch):
    """(method, train_split, seed) of each call of `fit`."""
    calls, fit = [], sweeping.fit

    def counting(model, task, **how):
        calls.append((model.method.name, how["train_split"], how["seed"]))
        return fit(model, task, **how)

    monkeypatch.setattr(sweeping, "fit", counting)
    return calls


def lines(file):
    return file.read_text().splitlines()


def comparable(file):
    return pd.read_csv(file, dtype=str).drop(columns=list(NOT_COMPARED), errors="ignore")


def test_the_table_is_what_sweep_returns(world, grid, tmp_path):
    frame, failed = sweep(grid(), world / "runs", table=tmp_path / "new.csv")
    assert not failed and pd.read_csv(tmp_path / "new.csv").equals(frame)
    assert (tmp_path / "new.csv").read_bytes() == (world / "whole.csv").read_bytes()  # all of it is from the ledger
    ledger = read_ledger(world / "runs").set_index("run")
    in_text = {run: row for row in csv.DictReader(lines(tmp_path / "new.csv")) if (run := row["run"])}
    assert len(in_text) == 2 + 2 * 2 and all(  # to the last digit
        in_text[run][name] == str(ledger.loc[run, name]) for run in in_text for name in ("train_loss", "lr", "method")
    )
    assert list(dict.fromkeys(row["label"] for row in in_text.values())) == ["linear", "two_stage"]


def test_a_whole_table_needs_no_ledger(table, grid, trained, tmp_path):
    before, written = table.read_bytes(), table.stat().st_mtime_ns
    frame, failed = sweep(grid(), tmp_path / "runs", table=table)
    assert not trained and not failed and frame.equals(pd.read_csv(table))
    assert table.read_bytes() == before and table.stat().st_mtime_ns == written
    assert not list((tmp_path / "runs").iterdir())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all.csv", "grid.yaml", "runs"]


def test_the_table_counts_before_the_ledger(world, table, grid, trained):
    rows = lines(table)
    seconds = rows[0].split(",").index("seconds")
    other = next(csv.reader([rows[1]]))[seconds]
    table.write_text("\n".join([rows[0], rows[1].replace(f",{other},", ",1234.5,"), *rows[2:]]) + "\n")
    before = table.read_bytes()
    sweep(grid(), world / "runs", table=table)
    assert b"1234.5" in before and table.read_bytes() == before and not trained


def test_what_is_missing_is_trained_and_nothing_else(table, grid, trained, tmp_path):
    """A row of tuning, one of the final runs, and one of two stages, whose first is trained for it alone."""
    whole, rows = comparable(table), lines(table)
    missing = [1, 5, 6]
    kept = [row for i, row in enumerate(rows) if i not in missing]
    table.write_text("\n".join(kept) + "\n")
    os.link(table, tmp_path / "same file")
    sweep(grid(), tmp_path / "runs", table=table)
    assert lines(tmp_path / "same file") == kept  # the table was replaced, not written into
    assert comparable(table).equals(whole) and [r for i, r in enumerate(lines(table)) if i not in missing] == kept
    last = ("two_stage", "train800val200", 1)
    assert trained == [("linear", "train800", 0), ("norm", *last[1:]), ("linear", "train800val200", 1), last]


def test_killed_and_given_again_with_an_empty_ledger(world, grid, tmp_path):
    """SIGKILL just after the table was written for the third time."""
    file, whole = tmp_path / "all.csv", comparable(world / "whole.csv")

    def until_killed():
        write, times = SweepTable.write, []

        def dying(self, results):
            write(self, results)
            times.append(1)
            if len(times) == 3:
                os.kill(os.getpid(), signal.SIGKILL)

        SweepTable.write = dying
        sweep(grid(), tmp_path / "runs", table=file)

    process = multiprocessing.get_context("fork").Process(target=until_killed)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and len(read_cells(file)[1]) == 3
    shutil.rmtree(tmp_path / "runs")
    sweep(grid(), tmp_path / "runs", table=file)
    assert comparable(file).equals(whole)


def once(function):
    """The function, called once for arguments of the same text."""
    made = {}
    return lambda *args: made[repr(args)] if repr(args) in made else made.setdefault(repr(args), function(*args))


@pytest.mark.parametrize("how", STOPS)
def test_stopped_while_it_writes(how, grid, tmp_path, monkeypatch):
    """At each of its file operations: what lies there is a table as far as it goes, and in the end the whole one."""
    monkeypatch.setattr("peftlab.common.files.STALE", -1)
    for module, name in ((sweeping, "run_job"), (plan, "task_specs")):  # no run is stopped: each gives the same again
        monkeypatch.setattr(module, name, once(getattr(module, name)))
    folder, runs = tmp_path / "results", tmp_path / "runs"
    folder.mkdir()
    of_linear, changed = grid(methods=LINEAR), grid(methods={"linear": {"lr": 0.2}}, seeds=[0])
    sweep(of_linear, runs)
    sweep(changed, runs, table=folder / "all.csv")
    (old,) = read_cells(folder / "all.csv")[1]
    both = grid(methods={"linear": {}, "other": {"method": "linear", "lr": 0.2}}, seeds=[0])
    sweep(both, runs, table=folder / "all.csv")  # now it has a row that the next grid lacks

    def readable():
        found = [row for file in folder.glob("*.csv") for row in read_cells(file)[1]]
        assert old["run"] in {row["run"] for row in found}

    assert stopped_everywhere(lambda: sweep(of_linear, runs, table=folder / "all.csv"), folder, how, readable) > 10
    assert len(read_cells(folder / "all.csv")[1]) == 2 and len(read_cells(folder / "all.others.csv")[1]) == 1


def test_predictions_stand_beside_the_table_and_say_what_its_rows_say(world, table, grid, trained, tmp_path):
    shutil.copy(table_file(world / "whole.csv"), table_file(table))
    sweep(grid(), tmp_path / "runs", table=table)
    rows = pd.read_csv(table)
    for split, column in (("val200", "val_accuracy"), ("test", "test_accuracy")):
        right = correct(table, rows, split)
        assert not trained and set(right) == set(rows.dropna(subset=column)["run"])
        assert {run: each.mean() for run, each in right.items()} == pytest.approx(
            rows.set_index("run")[column][[*right]].to_dict()
        )
    changed = grid(methods={"linear": {"lr": [1e-3, 1e-2]}, "two_stage": {"channels": 2, "lr": 0.03}})
    sweep(changed, tmp_path / "runs", table=table)
    for file in (table, tmp_path / "all.others.csv"):  # what is set aside takes its predictions along
        assert set(correct(file, rows := pd.read_csv(file))) == set(rows.dropna(subset="test_accuracy")["run"])


def test_another_recipe_is_another_run(table, grid, trained, tmp_path, capsys):
    """The rows of the old one move into a file beside the table, those of an equal spec stay as they are."""
    before = lines(table)
    of_linear, of_two_stage = ([row for row in before if row.startswith(name)] for name in ("linear", "two_stage"))
    changed = grid(methods={"linear": {"lr": [1e-3, 1e-2]}, "two_stage": {"channels": 2, "lr": 0.03}})
    sweep(changed, tmp_path / "runs", table=table)
    assert [method for method, _, _ in trained] == 2 * ["norm"] + 2 * ["two_stage"]
    assert [row for row in lines(table) if row.startswith("linear")] == of_linear and len(lines(table)) == len(before)
    others = tmp_path / "all.others.csv"
    assert lines(others) == [before[0], *of_two_stage]
    assert f"2 rows of no run of this grid now stand in {others}" in capsys.readouterr().err
    sweep(grid(), tmp_path / "runs", table=table)  # and back: it adds to the others
    assert len(lines(others)) == 1 + 4 and [row.split(",")[1] for row in lines(table)] == [
        row.split(",")[1] for row in before
    ]


def test_of_another_grid_it_is_refused(table, grid, tmp_path):
    before = table.read_bytes()
    another = grid(recipe={"epochs": 3, "batch_size": 4})
    for call in (sweep, estimate):
        with pytest.raises(PeftlabError, match=r"all.csv: none of its 6 rows is of a run of this grid.* another file"):
            call(another, tmp_path / "runs", table=table)
    assert table.read_bytes() == before and not (tmp_path / "runs").exists()


def test_final_rows_alone_belong_to_the_grid_too(table, grid, trained, tmp_path):
    """Whichever candidate they are of; what was not chosen this time is kept beside."""
    rows = lines(table)
    table.write_text("\n".join([rows[0], *rows[3:]]) + "\n")
    sweep(grid(), tmp_path / "runs", table=table)
    assert trained == 2 * [("linear", "train800", 0)] and lines(table)[3:] == rows[3:]


def test_an_interrupted_sweep_keeps_every_row(table, grid, tmp_path, monkeypatch):
    """Also those of which it cannot know yet whether they will belong to it."""
    before = lines(table)
    run_job = sweeping.run_job

    def interrupted(grid, job, *others):
        if job["recipe"]["lr"] == 0.2:
            raise KeyboardInterrupt
        return run_job(grid, job, *others)

    monkeypatch.setattr(sweeping, "run_job", interrupted)
    extended = grid(methods={"linear": {"lr": [1e-3, 1e-2, 0.1, 0.2]}, "two_stage": {"channels": 2}})
    with pytest.raises(KeyboardInterrupt):
        sweep(extended, tmp_path / "runs", table=table)
    assert set(lines(table)) >= set(before) and len(lines(table)) == len(before) + 1


def test_a_task_that_cannot_be_read_costs_no_row(world, grid, trained, tmp_path):
    """Its runs fail, the others go on; once it is repaired, nothing of it is trained again."""
    both = grid(tasks=["eurosat", "dtd"], methods={"linear": {"lr": [1e-3, 1e-2]}}, seeds=[0])
    file, image = tmp_path / "all.csv", world / "root" / "dtd" / "images" / "val200" / "000000.png"
    sweep(both, tmp_path / "runs", table=file)
    before = lines(file)
    of_dtd, of_eurosat = ([row for row in before if f"linear,{task}-" in row] for task in ("dtd", "eurosat"))
    pixels = image.read_bytes()
    image.unlink()
    try:
        file.write_text("\n".join([before[0], *of_dtd, of_eurosat[0]]) + "\n")
        with pytest.raises(DataError, match=r"000000.png: a list names this file"):
            estimate(both, tmp_path / "new", table=file)
        _, failed = sweep(both, tmp_path / "new", table=file)
        assert {job["task"] for job in failed} == {"dtd"} and len(lines(file)) == len(before)
        assert set(lines(file)) >= {*of_dtd, of_eurosat[0]} and not (tmp_path / "all.others.csv").exists()
        for call in (estimate, sweep):  # nothing can be told of this one
            file.write_text("\n".join([before[0], *of_dtd]) + "\n")
            with pytest.raises(DataError, match=r"000000.png: a list names this file"):
                call(both, tmp_path / "newer", table=file)
    finally:
        image.write_bytes(pixels)
    trained.clear()
    sweep(both, tmp_path / "newest", table=file)
    assert set(lines(file)) >= set(of_dtd) and len(trained) == 3


def test_labels_are_those_of_the_grid(table, grid, trained, tmp_path):
    """A run is the same by whatever name, and under two names at once; a ledger's table has none at all."""
    methods = {"a probe": {"method": "linear", "lr": [1e-3, 1e-2]}, "two_stage": {"channels": 2}}
    methods["again"] = methods["two_stage"] | {"method": "two_stage"}
    sweep(grid(methods=methods), tmp_path / "runs", table=table)
    labels = [row["label"] for row in read_cells(table)[1]]
    assert not trained and labels == 2 * ["a probe"] + 2 * ["a probe", "again", "two_stage"]
    before = table.read_bytes()
    sweep(grid(methods=methods), tmp_path / "runs", table=table)
    assert table.read_bytes() == before
    pd.read_csv(table, dtype=str).drop(columns="label").to_csv(tmp_path / "ledger.csv", index=False)
    sweep(grid(), tmp_path / "runs", table=tmp_path / "ledger.csv")
    assert not trained and [row["label"] for row in read_cells(tmp_path / "ledger.csv")[1]] == 2 * ["linear"] + 2 * [
        "linear",
        "two_stage",
    ]


def test_fingerprints_and_names_of_digits_alone_stay_text(grid):
    """Of 12 hex digits, one in 280 has no letter among them: as a number it would lose its zeros."""
    kept = SweepTable(None, grid(), 1)
    kept.columns = ["label", "run", "data", "weights", "probe", "start", "adapter", "protocol_hash"]
    row = dict.fromkeys(kept.columns, "001")
    kept.rows = {"001": [row]}
    for label in ("007", "NA"):
        assert kept.frame([{"label": label, "run": "001"}]).to_dict("records") == [row | {"label": label}]


def test_a_row_an_epoch(grid, trained, tmp_path):
    """A run is done when all its epochs are there, with every split that was looked at."""
    file, runs = tmp_path / "all.csv", tmp_path / "runs"
    looking = grid(methods=LINEAR, evaluate_each_epoch=["val200", "test"], recipe={"epochs": 3, "batch_size": 4})
    frame, _ = sweep(looking, runs, table=file)
    rows = lines(file)
    assert frame["epoch"].tolist() == [1, 2, 3, 1, 2, 3] and frame.equals(pd.read_csv(file))
    shutil.rmtree(runs)
    trained.clear()
    sweep(looking, runs, table=file)
    assert lines(file) == rows and not trained
    last = rows[6].split(",")
    last[rows[0].split(",").index("test_accuracy")] = ""
    for damaged in (rows[:6], [*rows[:4], *rows[5:]], [*rows[:6], ",".join(last)]):
        file.write_text("\n".join(damaged) + "\n")
        shutil.rmtree(runs, ignore_errors=True)
        trained.clear()
        sweep(looking, runs, table=file)
        assert trained == [("linear", "train800", 1)] and lines(file)[:4] == rows[:4]
        assert comparable(file)["epoch"].tolist() == 2 * ["1", "2", "3"]


def test_epochs_of_a_cooldown_count(grid, trained, tmp_path):
    file, runs, recipe = tmp_path / "all.csv", tmp_path / "runs", {"epochs": 1, "cooldown_epochs": 2, "batch_size": 4}
    looking = grid(methods=LINEAR, seeds=[0], evaluate_each_epoch=["test"], recipe=recipe)
    frame, _ = sweep(looking, runs, table=file)
    assert frame["epoch"].tolist() == [1, 2, 3]
    trained.clear()
    sweep(looking, tmp_path / "other", table=file)
    assert not trained
    (row,) = {row["run"]: row for row in read_cells(file)[1]}.values()
    assert seconds_an_image(row | {"seconds": "6", "train_images": "10"}) == pytest.approx(0.2)
    file.write_text("\n".join(lines(file)[:3]) + "\n")  # without the last
    sweep(looking, tmp_path / "other", table=file)
    assert trained and len(lines(file)) == 4


def edited(rows, line, column, value):
    """The rows with one cell replaced."""
    cells = list(csv.reader(rows))
    cells[line][cells[0].index(column)] = value
    return [",".join(f'"{cell.replace(chr(34), 2 * chr(34))}"' for cell in row) for row in cells]


BAD = {  # what is done to the lines of a table: what its sentence must say
    "no run": (lambda rows: ["a,b", "1,2"], "has no column run, so it is not the table of a sweep"),
    "no run in a row": (lambda rows: edited(rows, 2, "run", ""), "line 3: names no run"),
    "columns twice": (lambda rows: ["run,a,a", "1,2,3"], "has a column twice"),
    "no text": (lambda rows: ["\udcff\udcfe"], "cannot be read as a table"),
    "open quotes": (lambda rows: [*rows, '"linear'], "cannot be read as a table: unexpected end of data"),
    "too few cells": (lambda rows: [*rows, "linear,eurosat"], "line 8: 2 cells in 4"),
    "too many cells": (lambda rows: [rows[0], rows[1] + ",1"], "line 2: 4"),
    "no number": (lambda rows: edited(rows, 3, "test_accuracy", "good"), "line 4: test_accuracy is 'good', but must"),
    "no share": (lambda rows: edited(rows, 1, "val_accuracy", "50.0"), "line 2: val_accuracy is '50.0', but must"),
    "not finite": (lambda rows: edited(rows, 1, "seconds", "nan"), "line 2: seconds is 'nan', but must be a number"),
    "no epochs": (lambda rows: edited(rows, 1, "epochs", "0"), "line 2: epochs is '0', but must be a number from 1"),
    "disagreement": (
        lambda rows: [*edited(rows, 1, "val_accuracy", "0.123"), rows[1]],
        r"two rows of eurosat-linear-\w+ disagree, val_accuracy 0.123 and .* Remove one",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_damaged_table_is_told_before_anything_is_trained(what, table, grid, trained, tmp_path):
    damage, sentence = BAD[what]
    table.write_text("\n".join(damage(lines(table))) + "\n", errors="surrogateescape")
    before = table.read_bytes()
    for call in (sweep, estimate):
        with pytest.raises(DataError, match=rf"all.csv\W.*{sentence}"):
            call(grid(), tmp_path / "runs", table=table)
    assert table.read_bytes() == before and not trained and not (tmp_path / "runs").exists()


def test_a_cut_last_line_is_told(table, grid, tmp_path):
    """In the middle, or just before its end, where all cells are there but the last may be half of a number."""
    whole = table.read_text()
    for cut, sentence in ((whole[:-1], "its last line does not end"), (whole[:-40], "its last line does not end")):
        table.write_text(cut)
        with pytest.raises(DataError, match=sentence):
            sweep(grid(), tmp_path / "runs", table=table)
        assert table.read_text() == cut


def test_no_place_for_a_table(grid, tmp_path):
    for place, sentence in ((tmp_path, "is a folder"), (tmp_path / "missing" / "all.csv", "there is no folder")):
        with pytest.raises(PeftlabError, match=sentence):
            sweep(grid(), tmp_path / "runs", table=place)
    assert not (tmp_path / "runs").exists()


def test_equal_rows_twice_are_one(table, grid, trained, tmp_path):
    """As where tables of two machines were put together."""
    rows = lines(table)
    table.write_text("\n".join([*rows, *edited(rows, 1, "seconds", "99")[1:]]) + "\n")
    sweep(grid(), tmp_path / "runs", table=table)
    assert not trained and lines(table) == rows


def test_an_empty_file_is_a_table_without_rows(grid, tmp_path):
    for content in ("", "label,run\n"):
        (tmp_path / "all.csv").write_text(content)
        sweep(grid(methods=LINEAR, seeds=[0]), tmp_path / "runs", table=tmp_path / "all.csv")
        assert len(read_cells(tmp_path / "all.csv")[1]) == 1


def content(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if "fingerprints" not in str(p)}


def test_estimate_counts_and_writes_nothing(world, table, grid, trained, tmp_path, monkeypatch):
    rows = lines(table)
    table.write_text("\n".join(rows[:4]) + "\n")  # tuned, one final run of linear
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    whole = grid()
    before = content(tmp_path), content(world)
    found = estimate(whole, tmp_path / "runs", table=table)
    assert (content(tmp_path), content(world)) == before and not trained
    columns = ["tuning done", "tuning left", "final done", "final left", "by"]
    assert found[columns].to_numpy().tolist() == [[2, 0, 1, 1, "3 done"], [0, 0, 0, 2, "measured"]]
    assert list(found.index) == ["linear", "two_stage"] and (found["core-hours"] > 0).all()
    with_ledger = estimate(whole, world / "runs")
    assert with_ledger[columns].to_numpy().tolist() == [[2, 0, 2, 0, ""], [0, 0, 2, 0, ""]]
    assert with_ledger["core-hours"].sum() == 0
    nothing = estimate(whole, tmp_path / "runs")
    assert nothing[columns[:4]].to_numpy().tolist() == [[0, 2, 0, 2], [0, 0, 0, 2]]
    assert set(nothing["by"]) == {"measured"} and content(tmp_path) == before[0]


def test_estimate_takes_the_median_image_for_image(table, grid, tmp_path, monkeypatch):
    """Seconds of a run grow with its images and epochs; what only is looked at is timed beside it."""
    monkeypatch.setattr("peftlab.training.estimate.seconds_a_look", lambda grid, task: 1000.0)
    rows = lines(table)
    for line, epochs, seconds in ((1, "1", "400"), (2, "5", "4000"), (3, "1", "6000")):  # of 4, 4 and 6 images
        rows = edited(edited(rows, line, "seconds", seconds), line, "epochs", epochs)
    table.write_text("\n".join(rows[:4]) + "\n")
    found = estimate(grid(methods={"linear": {"lr": [1e-3, 1e-2]}}), tmp_path / "runs", table=table)
    seconds = 200 * 6 + 1000 * (6 + 2)  # 6 training images and 2 of test
    assert found.loc["linear", "minutes a run"] == pytest.approx(seconds / 60)
    threads = torch.get_num_threads()
    assert found.loc["linear", "core-hours"] == pytest.approx(seconds * threads / 3600)
    looking = grid(
        methods=LINEAR, seeds=[0], evaluate_each_epoch=["val200", "test"], recipe={"epochs": 3, "batch_size": 4}
    )
    monkeypatch.setattr("peftlab.training.estimate.measured", lambda *_: 10.0)
    found = estimate(looking, tmp_path / "runs")
    assert list(found.columns[:2]) == ["each epoch done", "each epoch left"]
    assert found.loc["linear", "minutes a run"] == pytest.approx((10 * 4 * 3 + 1000 * (4 + 3 * (2 + 2) + 2)) / 60)


@pytest.mark.parametrize("cooldown", [0, 1])
def test_estimate_measures_both_stages(cooldown, grid, tmp_path, monkeypatch):
    """Seconds of the first for each image count as often as it has epochs for each of the second's."""

    class Curves:
        def __init__(self, seconds):
            self.curves = pd.DataFrame({"seconds": [0.1, seconds + 1, seconds]})
            self.before = None

    run = Curves(4.0)
    run.before = Curves(8.0)
    asked = []
    monkeypatch.setattr("peftlab.training.estimate.seconds_a_look", lambda grid, task: 0.0)
    monkeypatch.setattr("peftlab.training.estimate.fit", lambda model, task, **how: asked.append((task, how)) or run)
    methods = {"two_stage": {"channels": 2, "first_epochs": 3}}
    recipe = {"epochs": 1, "batch_size": 2, "augmentation": "crop", "cooldown_epochs": cooldown}
    found = estimate(grid(methods=methods, seeds=[0], recipe=recipe), tmp_path / "runs")
    ((noise, how),) = asked
    assert len(noise.labels("train800val200")) == 2 * 2 and how["epochs"] == how["first_epochs"] == 3
    assert how["cooldown_epochs"] == 0 and how["augmentation"] == "crop"  # so that nothing is computed once
    one, two = 3 + cooldown, 1 + cooldown
    assert found.loc["two_stage", "minutes a run"] == pytest.approx((two * 4 + one * 8) / 4 * 6 / 60)


def test_estimate_counts_a_run_under_two_labels_once(grid, tmp_path, monkeypatch):
    monkeypatch.setattr("peftlab.training.estimate.measured", lambda *_: 10.0)
    found = estimate(grid(methods=LINEAR | {"same": {"method": "linear"}}), tmp_path / "runs")
    assert found["final left"].tolist() == [2, 2] and (found["core-hours"] > 0).tolist() == [True, False]


def test_dry_run_command(table, grid, trained, tmp_path, capsys):
    table.write_text("\n".join(lines(table)[:5]) + "\n")
    grid()
    before = content(tmp_path)
    command = ["sweep", str(tmp_path / "grid.yaml"), "--runs", str(tmp_path / "runs"), "--csv", str(table)]
    assert main([*command, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "tuning done  tuning left  final done  final left  minutes a run" in out and "core-hours" in out
    assert "2 of 6 runs left: 0.00 core-hours" in out and content(tmp_path) == before and not trained
    assert main(command) == 0 and len(trained) == 3 and len(lines(table)) == 1 + 6


def test_another_backbone_by_command(world, grid, trained, tmp_path, capsys):
    """A grid is repeated on another backbone, at that one's size, into a table of its own."""
    grid(methods=LINEAR, seeds=[0], tasks=["eurosat"], img_size=8)
    other = shutil.copy(world / "tiny.safetensors", tmp_path / "other.safetensors")
    command = ["sweep", str(tmp_path / "grid.yaml"), "--runs", str(tmp_path / "runs"), "--backbone", str(other)]
    assert main([*command, "--csv", str(tmp_path / "own.csv")]) == 0
    assert main([*command, "--img-size", "8", "--csv", str(tmp_path / "small.csv")]) == 0
    rows = [pd.read_csv(tmp_path / name).iloc[0] for name in ("own.csv", "small.csv")]
    assert [row["img_size"] for row in rows] == [16, 8] and len(trained) == 2, rows
