"""Sweeps: tuned on val200, tested once, resumable; the same on one process, several, and a cluster in trouble."""

import io
import json
import os
import shutil
import signal
import threading
import time

import pandas as pd
import pytest
import yaml
from own_method import SCRIPT, run_script

import peftlab.training.plan as plan
import peftlab.training.sweep as sweeping
from peftlab.backbones.load import load_backbone, save_backbone
from peftlab.cli import main
from peftlab.common.errors import PeftlabError
from peftlab.methods import METHODS
from peftlab.results.ledger import read_ledger
from peftlab.tasks.load import load_task
from peftlab.training.grid import read_grid
from peftlab.training.sweep import on_cluster, sweep

DEPTH = 2  # blocks of the backbone, cut short


@pytest.fixture
def grid_file(tiny_task, tmp_path):
    """Writes a grid over one small real-shaped task; keys given replace those of the grid."""
    root = tmp_path / "root"
    shutil.copytree(tiny_task.folder, root / "eurosat")
    (root / "eurosat" / "classes.txt").write_text("red\ngreen\nblue\n")
    vit = load_backbone("test_vit", pretrained=False, img_size=32)
    del vit.blocks[DEPTH:]
    shape = {"img_size": 32, "embed_dim": 64, "depth": DEPTH, "patch_size": vit.patch_embed.patch_size[0]}
    shape |= {"num_heads": vit.blocks[0].attn.num_heads, "mlp_ratio": vit.blocks[0].mlp.fc1.out_features / 64}
    save_backbone(vit, tmp_path / "small.safetensors", shape)

    def write(**changes):
        content = {
            "tasks": ["eurosat"],
            "root": str(root),
            "backbone": str(tmp_path / "small.safetensors"),
            "seeds": [0, 1],
            "recipe": {"epochs": 2, "batch_size": 16},
            "methods": {"linear": {}, "lora": {"rank": [1, 2], "lr": [1e-3, 1e-2]}},
        }
        (tmp_path / "grid.yaml").write_text(yaml.safe_dump(content | changes))
        return tmp_path / "grid.yaml"

    return write


def comparable(table):
    """A ledger without what may differ between two machines and moments."""
    return table.drop(columns=["seconds", "finished", "test_opened"])


def rows(runs):
    return comparable(read_ledger(runs)).sort_values("run", ignore_index=True)


def same(one, two):
    return comparable(one).equals(comparable(two))


def test_tuned_on_val_and_tested_once(grid_file, tmp_path):
    table, failed = sweep(read_grid(grid_file()), tmp_path / "runs")
    ledger = read_ledger(tmp_path / "runs")
    tuning, final = (ledger[ledger["train_split"] == split] for split in ("train800", "train800val200"))
    assert len(tuning) == 4 and set(tuning["seed"]) == {0} and tuning["test_accuracy"].isna().all()
    assert len(final) == 4 and final["test_opened"].notna().all() and not failed
    best = tuning[tuning["val_accuracy"] == tuning["val_accuracy"].max()]
    chosen = final[final["method"] == "lora"]
    assert len({(o, lr) for o, lr in zip(chosen["options"], chosen["lr"], strict=True)}) == 1
    assert (chosen["options"].iloc[0], chosen["lr"].iloc[0]) in set(zip(best["options"], best["lr"], strict=True))
    assert table.sort_values("run")["run"].tolist() == ledger.sort_values("run")["run"].tolist()
    by_run = ledger.set_index("run").loc[table["run"]].reset_index()
    in_csv = pd.read_csv(io.StringIO(by_run[table.columns.drop("label")].to_csv(index=False)))
    assert in_csv.equals(table.drop(columns="label"))
    assert (table["label"] == table["method"]).all()


def test_one_choice_for_all_tasks(grid_file, tmp_path, monkeypatch):
    """tune_on: the best mean over those tasks, for every task; a candidate that failed on one of them is out."""
    grid = read_grid(grid_file(methods={"lora": {"lr": [1e-3, 1e-2, 1e-1]}}))
    grid = grid.model_copy(update={"tasks": ["a", "b", "c"], "tune_on": ["a", "b"], "seeds": [3, 4]})
    jobs = plan.tuning_jobs(grid)
    assert [(j["task"], j["recipe"]["lr"]) for j in jobs] == [(t, lr) for t in "ab" for lr in (1e-3, 1e-2, 1e-1)]
    scores = dict(zip([(t, lr) for t in "ab" for lr in (1e-3, 1e-2, 1e-1)], (0.2, 0.5, 0.9, 0.6, 0.4, 0), strict=True))
    tuned = [j | {"accuracy": scores[j["task"], j["recipe"]["lr"]]} for j in jobs]
    chosen = lambda results: [j["recipe"]["lr"] for j in plan.final_jobs(grid, results)]  # noqa: E731
    assert chosen(tuned) == [1e-2] * 6 and chosen(tuned[::-1]) == [1e-2] * 6
    assert [(j["seed"], j["task"]) for j in plan.final_jobs(grid, tuned)] == [(s, t) for s in (3, 4) for t in "abc"]
    failed = [j for j in tuned if j["recipe"]["lr"] == 1e-2 and j["task"] == "b"][0]
    del failed["accuracy"]
    assert chosen(tuned) == [1e-1] * 6
    nothing = [{key: value for key, value in j.items() if key != "accuracy"} for j in tuned]
    assert plan.final_jobs(grid, nothing) == []  # every candidate failed
    alone = grid.model_copy(update={"tasks": ["a", "b"], "tune_on": None, "seeds": [3]})
    assert [j["recipe"]["lr"] for j in plan.final_jobs(alone, tuned)] == [1e-1, 1e-3]


def test_evaluating_each_epoch_chooses_nothing(grid_file, tmp_path):
    grid = read_grid(grid_file(evaluate_each_epoch=["val200", "test"], methods={"linear": {"lr": [1e-3, 1e-2]}}))
    table, failed = sweep(grid, tmp_path / "runs")
    assert len(table) == 2 * 2 * 2 and set(table["epoch"]) == {1, 2} and not failed  # rates, seeds, epochs
    assert set(table["lr"]) == {1e-3, 1e-2} and set(table["train_split"]) == {"train800"}
    assert set(table["evaluated_each_epoch"]) == {"val200 test"}
    assert table["test_accuracy"].notna().all() and "test_accuracy" not in read_ledger(tmp_path / "runs")


def test_given_again_it_trains_nothing(grid_file, tmp_path, monkeypatch):
    import peftlab.training.fit as training

    grid = read_grid(grid_file())
    first, _ = sweep(grid, tmp_path / "runs")
    before = {file: file.read_bytes() for file in (tmp_path / "runs").rglob("*.*")}
    monkeypatch.setattr(training, "train_classifier", lambda run: pytest.fail("trained again"))
    again, _ = sweep(grid, tmp_path / "runs")
    assert again.equals(first) and before == {file: file.read_bytes() for file in (tmp_path / "runs").rglob("*.*")}


def test_a_failure_is_recorded_and_the_rest_goes_on(grid_file, tmp_path):
    methods = {"full": {"lr": [1e12, 1e-3]}, "norm": {"lr": 1e12}, "linear": {}}
    grid = read_grid(grid_file(methods=methods, recipe={"epochs": 9}, seeds=[0]))
    table, failed = sweep(grid, tmp_path / "runs")
    final = table[table["train_split"] == "train800val200"]
    assert final["label"].tolist() == ["full", "linear"] and final["lr"].iloc[0] == 1e-3
    assert [job["label"] for job in failed] == ["full", "norm"]
    record = json.loads(open(failed[0]["failure"]).read())
    assert "the loss became nan" in record["error"] and "Traceback" in record["traceback"]
    assert len(list((tmp_path / "runs" / "failures").iterdir())) == 2


def test_the_same_run_under_two_names_is_made_once(grid_file, tmp_path):
    methods = {"one": {"method": "lora", "rank": 2}, "other": {"method": "lora", "rank": 2}}
    table, _ = sweep(read_grid(grid_file(methods=methods, seeds=[0])), tmp_path / "runs")
    assert (
        table["label"].tolist() == ["one", "other"]
        and table["run"].nunique() == len(read_ledger(tmp_path / "runs")) == 1
    )


def test_processes_change_nothing(grid_file, tmp_path):
    grid = read_grid(grid_file())
    one, _ = sweep(grid, tmp_path / "one", table=tmp_path / "one.csv")
    two, _ = sweep(grid, tmp_path / "two", processes=2)
    three, _ = sweep(grid, tmp_path / "three", processes=2, table=tmp_path / "one.csv")
    assert three.equals(one) and not list((tmp_path / "three").iterdir())  # they make the same specs
    assert same(one, two) and rows(tmp_path / "one").equals(rows(tmp_path / "two"))


@pytest.mark.parametrize("named", ["the grid", "the environment", "nobody"])
def test_workers_are_told_where_the_tasks_are(named, grid_file, tmp_path, monkeypatch):
    """By absolute path: those of a cluster have another folder and environment than who asks for the sweep."""
    roots = set()
    monkeypatch.setattr(
        sweeping, "run_job", lambda grid, job, *others: roots.add(grid.root) or job | {"error": "none"}
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PEFTLAB_DATA", raising=False)
    if named == "the environment":
        monkeypatch.setenv("PEFTLAB_DATA", "root")
    task = "digits" if named == "nobody" else "eurosat"
    grid = read_grid(grid_file(root="root" if named == "the grid" else None, tasks=[task]))
    sweep(grid, tmp_path / "runs")
    assert roots == {"synthetic" if named == "nobody" else str(tmp_path / "root")}


def test_processes_know_a_method_of_ones_own(grid_file, tmp_path):
    try:
        run_script(SCRIPT)
        grid = read_grid(grid_file(methods={"gate": {}, "linear": {}}, seeds=[0]))
        two, failed = sweep(grid, tmp_path / "two", processes=2, table=tmp_path / "two.csv")
        assert not failed and set(two["method"]) == {"gate", "linear"}
        again, _ = sweep(grid, tmp_path / "one", processes=2, table=tmp_path / "two.csv")
        assert again.equals(two) and not list((tmp_path / "one").iterdir())
        run_script(SCRIPT.replace("STRENGTH = 1.0", "STRENGTH = 3.0"))
        changed, _ = sweep(grid, tmp_path / "two")
        assert [a == b for a, b in zip(changed["run"], two["run"], strict=True)] == [False, True]
    finally:
        METHODS.pop("gate", None)


def test_first_stages_are_jobs_of_their_own(grid_file):
    """One for each task, seed and recipe of its own, whatever the second stage tries."""
    entry = {"lr": [1e-3, 1e-2], "channels": [4, 8]}
    methods = {"two_stage": entry, "slow": {"method": "two_stage", "first_lr": 0.1, "first_epochs": 7}, "norm": {}}
    grid = read_grid(grid_file(methods=methods))
    tuning = plan.tuning_jobs(grid)
    final = plan.every_job(grid, "train800")
    first = plan.first_stage_jobs(tuning)
    assert len(tuning) == len(first) == 4 and len({plan.identity(job) for job in first}) == 1
    norm = {
        "task": "eurosat",
        "train_split": "train800",
        "seed": 0,
        "method": "norm",
        "options": {"last_blocks": None},
    }
    assert first[0].items() >= norm.items() and first[0]["first_stage"] and first[0]["label"] == "two_stage"
    assert first[0]["recipe"] == {"epochs": 2, "batch_size": 16}  # the rate is that of LayerNorm tuning itself
    recipes = [job["recipe"] for job in plan.first_stage_jobs(final) if job["label"] == "slow"]
    assert recipes == 2 * [{"epochs": 7, "batch_size": 16, "lr": 0.1}]
    distinct = {plan.identity(job): job for job in plan.first_stage_jobs(final)}.values()
    assert [(job["label"], job["seed"]) for job in distinct] == [(s, i) for s in ("slow", "two_stage") for i in (0, 1)]
    assert plan.first_stage_jobs(first) == []
    plain = read_grid(grid_file(methods={"two_stage": {"align": False}}))
    assert [job["method"] for job in plan.first_stage_jobs(plan.final_jobs(plain, []))] == 2 * ["linear"]


@pytest.mark.parametrize("looking", [False, True])
def test_a_first_stage_is_trained_once_and_opens_no_split(looking, grid_file, tmp_path):
    """Two processes, several second stages on one first; first stages stand in the ledger, but not in the table."""
    methods = {"two_stage": {"lr": [1e-3, 1e-2]}, "few": {"method": "two_stage", "channels": 4, "first_lr": 0.02}}
    splits = ["val200", "test"] if looking else []
    grid = read_grid(grid_file(methods=methods, seeds=[0], evaluate_each_epoch=splits))
    table, failed = sweep(grid, tmp_path / "runs", processes=2)
    ledger = read_ledger(tmp_path / "runs")
    first, second = ledger[ledger["method"] == "norm"], ledger[ledger["method"] == "two_stage"]
    assert not failed and set(table["run"]) == set(second["run"]) and set(table["label"]) == set(methods)
    assert set(first["run"]) == set(second["before"])
    assert len(first) == len(first.drop_duplicates(["lr", "train_split"])) and 0.02 in set(first["lr"])
    for column in ("val_accuracy", "test_accuracy", "test_opened", "evaluated_each_epoch"):
        assert column not in first or first[column].isna().all()


def test_a_first_stage_that_fails_is_told(grid_file, tmp_path):
    methods = {"two_stage": {"first_lr": 1e12}, "linear": {}}
    grid = read_grid(grid_file(methods=methods, recipe={"epochs": 9}, seeds=[0]))
    table, failed = sweep(grid, tmp_path / "runs")
    assert table["label"].tolist() == ["linear"]
    assert [(job["method"], job["label"]) for job in failed] == [("norm", "two_stage"), ("two_stage", "two_stage")]
    assert all("FloatingPointError" in json.loads(open(job["failure"]).read())["error"] for job in failed)


@pytest.mark.parametrize("processes", [0, -1])
def test_at_least_one_process(processes, grid_file, tmp_path, capsys):
    file = grid_file()
    with pytest.raises(PeftlabError, match=f"--jobs.* is {processes}, but must be at least 1"):
        sweep(read_grid(file), tmp_path / "runs", processes)
    assert main(["sweep", str(file), "--runs", str(tmp_path / "runs"), "--jobs", str(processes)]) == 2
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def quick_workers():
    """Dask forks its workers, and the one that takes a killed one's place, from a process that has imported torch."""
    pytest.importorskip("distributed")
    import dask
    from distributed.utils import get_mp_context

    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        get_mp_context().set_forkserver_preload(["distributed", "peftlab.training.sweep"])
        yield


def test_a_cluster_that_loses_a_worker(grid_file, tmp_path, quick_workers):
    """Two worker processes, one killed while it trains: nothing is lost, nothing done twice, the same ledger."""
    import distributed

    grid = read_grid(grid_file(recipe={"epochs": 5, "batch_size": 4}))
    serial, _ = sweep(grid, tmp_path / "serial")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        victim = next(iter(cluster.workers.values())).process.process.pid

        def kill():
            while len(list((tmp_path / "runs").glob("*/run.json"))) < 2:
                time.sleep(0.02)
            os.kill(victim, signal.SIGKILL)
            killed.set()

        killed = threading.Event()
        threading.Thread(target=kill, daemon=True).start()
        with on_cluster(cluster.scheduler_address):
            table, failed = sweep(grid, tmp_path / "runs", processes=2)
    assert killed.is_set() and not failed
    assert same(table, serial) and rows(tmp_path / "runs").equals(rows(tmp_path / "serial"))
    assert not list((tmp_path / "runs").rglob("*.part*")) and not list((tmp_path / "runs").rglob("state.*"))


def test_no_cluster_there(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(sweeping, "PATIENCE", 1)
    with pytest.raises(PeftlabError, match="no Dask scheduler at tcp://127.0.0.1:1"), on_cluster("tcp://127.0.0.1:1"):
        pass


def test_costs_of_a_grid(grid_file, capsys):
    """One row a label, of the first of its combinations, on the grid's backbone."""
    methods = {"linear": {}, "thin": {"method": "lora", "rank": [1, 8]}}
    assert main(["costs", "--grid", str(grid_file(methods=methods)), "--csv", "--classes", "3"]) == 0
    card = pd.read_csv(io.StringIO(capsys.readouterr().out)).set_index("method")
    width = 64
    assert card["parameters"].to_dict() == {"linear": 0, "thin": 2 * DEPTH * 2 * width}


def test_few_images(grid_file, tmp_path):
    table, _ = sweep(read_grid(grid_file(methods={"linear": {}}, train_images=7, seeds=[0])), tmp_path / "runs")
    assert table["train_images"].tolist() == [7]


def test_command(grid_file, tmp_path, capsys):
    file = grid_file(methods={"linear": {}, "two layers": {"method": "lora", "targets": [["q", "v"]], "lr": 1e12}})
    csv = tmp_path / "all.csv"
    assert main(["sweep", str(file), "--runs", str(tmp_path / "runs"), "--csv", str(csv)]) == 1
    written = pd.read_csv(csv)
    assert written["label"].tolist() == ["linear", "linear"] and written["test_accuracy"].notna().all()
    out = capsys.readouterr().out
    assert "linear" in out and "95 % intervals" in out and out.count("failed: two layers on eurosat, seed") == 2
    assert main(["sweep", str(file), "--scheduler", "tcp://127.0.0.1:1"]) == 2
    assert main(["sweep", str(file), "--backend", "dask"]) == 2


def test_each_seed_begins_with_a_head_and_an_adapter_of_its_own(grid_file):
    """Otherwise seeds would differ by the order of their images alone, and look more alike than they are."""
    grid = read_grid(grid_file())
    jobs, task = plan.every_job(grid, "train800"), load_task(grid.tasks[0], grid.root)
    for method in {job["method"] for job in jobs}:
        starts = {job["seed"]: plan.attached(grid, job, task).digest() for job in jobs if job["method"] == method}
        assert len(set(starts.values())) == len(grid.seeds) == 2


def test_what_a_grid_says_of_all_runs_reaches_their_specs(grid_file):
    grid = read_grid(grid_file(protocol="noah", train_images=20, methods={"linear": {}}))
    specs = plan.Specs(grid, 1).of(plan.every_job(grid, "train800val200"))
    found = {(s.seed, s.protocol.name, s.protocol.preprocessing.normalisation, s.train_images) for s in specs}
    assert found == {(seed, "noah", "imagenet", 20) for seed in (0, 1)}
