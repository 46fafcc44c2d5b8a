"""The report on a reader's own images: one page and one model, or nothing."""

import json
import os
import re
from dataclasses import asdict, replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
import timm
from faults import contents
from lesson import saved
from nbformat.v4 import new_output
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from PIL import Image

from peftlab.cli import main
from peftlab.common.errors import PeftlabError
from peftlab.tasks.load import load_task
from peftlab.workbook import report
from peftlab.workbook.page.references import external_references
from peftlab.workbook.report import METHODS, NOTEBOOK, build_report
from peftlab.workbook.run import PageResult

FAST = {"backbone": "peftlab_vit_mini", "img_size": 32, "methods": ("linear", "norm"), "seeds": 1, "epochs": 1}


def photos(root, classes=3, each=12):
    """Coarse noise, brightest in the colour of its class."""
    rng = np.random.default_rng(0)
    for c in range(classes):
        (root / f"class {c}").mkdir(parents=True)
        for i in range(each):
            grid = rng.integers(0, 140, (6, 8, 3), dtype=np.uint8)
            grid[..., c % 3] += 100
            Image.fromarray(grid).resize((48, 36), Image.Resampling.BICUBIC).save(root / f"class {c}" / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One report -> (its folder, the error in it, printed lines)."""
    root, lines = tmp_path_factory.mktemp("report"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEFTLAB_CACHE", str(root / "cache"))
        patch.setenv("PEFTLAB_RUNS", str(root / "runs"))
        patch.setattr(report, "say", lines.append)
        (root / "out").mkdir()
        (root / "out" / "beetles.pdf").write_bytes(b"of an earlier report")
        page, error = build_report(photos(root / "beetles"), root / "out", minutes=10, **FAST)
    assert page == root / "out" / "beetles.html"
    return root, error, lines


def test_a_report_is_one_page_and_one_model(made):
    root, error, lines = made
    assert not error and sorted(p.name for p in (root / "out").iterdir()) == ["beetles.html", "beetles_model"]
    assert lines[0] == "beetles: 3 classes, 30 images to train, 6 to test"
    assert lines[1].startswith("linear, norm with 1 seed: about 1 of 10 minutes.")


def test_the_page_needs_nothing_else_and_answers_first(made):
    html = (made[0] / "out" / "beetles.html").read_text()
    assert external_references(html) == []
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", html)
    assert "The answer" in headings[0] and any("mistakes" in heading for heading in headings)
    assert "<strong>Take <code>" in html and html.count("<figure") >= 5
    assert 'id="hide-code" checked' in html and 'href="index.html"' not in html
    assert "part-" not in html, "no name of a temporary folder"
    assert re.findall(r"<tr><td>(\w+)</td><td>(\w+)</td><td><code>[0-9a-f]{12}</code>", html) == [
        ("task", "beetles"),
        ("backbone", "peftlab_vit_mini"),
    ]


def test_timm_loads_the_model_with_the_names_of_its_classes(made):
    folder = made[0] / "out" / "beetles_model"
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert tuple(model.pretrained_cfg["label_names"]) == ("class 0", "class 1", "class 2")
    html = (made[0] / "out" / "beetles.html").read_text()
    difference = float(re.search(r"Largest difference of its 3 logits from ours: ([-\de.+]+)", html)[1])
    assert difference < 1e-3 and "local-dir:beetles_model" in html


def test_the_same_command_trains_nothing_again(made, monkeypatch):
    root = made[0]
    monkeypatch.setenv("PEFTLAB_CACHE", str(root / "cache"))
    monkeypatch.setenv("PEFTLAB_RUNS", str(root / "runs"))
    monkeypatch.setattr("peftlab.training.fit.train_run", None)
    monkeypatch.setattr(report, "run_notebook", stopped)
    before = (root / "out" / "beetles.html").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        build_report(root / "beetles", root / "out", minutes=10, **FAST)
    assert sorted(p.name for p in (root / "out").iterdir()) == ["beetles.html", "beetles_model"], "nothing partial"
    assert (root / "out" / "beetles.html").read_bytes() == before


def stopped(*_):
    raise KeyboardInterrupt


def test_a_folder_that_no_report_wrote_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "out" / "ants_model").mkdir(parents=True)
    (tmp_path / "out" / "ants_model" / "mine.txt").write_text("mine")
    with pytest.raises(PeftlabError, match="no report wrote it"):
        build_report(photos(tmp_path / "ants"), tmp_path / "out", **FAST)


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """Reports that train nothing, and whose notebook writes a model, or fails with `error` -> quick["error"]."""
    set_up = {"error": "", "model": "new"}

    def run_notebook(path, values, environment):
        nb = parameterize_notebook(load_notebook_node(str(path)), values)
        model = Path(values["out"]) / f"{load_task(values['folder']).name}_model"
        model.mkdir()
        if not set_up["error"]:
            (model / "config.json").write_text(set_up["model"])
        nb.cells[-1].outputs = [new_output("stream", text=f"saved: {model}")]
        result = PageResult(path.stem, "Mine", "ok", 1.0, "full", "2025-01-01 00:00 UTC", environment)
        result = replace(result, status="failed" if set_up["error"] else "ok", error=set_up["error"])
        nb.metadata["peftlab"] = asdict(result)
        return nb, result

    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    for name, does in {"forecast": None, "outlook": "", "trained": None, "describe_environment": ""}.items():
        monkeypatch.setattr(report, name, lambda *args, does=does: does)
    monkeypatch.setattr(report, "run_notebook", run_notebook)
    return set_up


def command(folder, out):
    return ["report", str(folder), "--out", str(out), "--backbone", "peftlab_vit_mini", "--img-size", "32"]


def test_a_notebook_that_fails_leaves_the_earlier_model_and_says_why(quick, tmp_path, capsys):
    """With a full disk it has made the model's folder and nothing in it; the same command then goes on."""
    out, line = tmp_path / "out", command(photos(tmp_path / "ants"), tmp_path / "out")
    assert main(line) == 0
    quick.update(error="OSError: [Errno 28] No space left on device", model="newer")
    capsys.readouterr()
    assert main(line) == 1
    assert capsys.readouterr().err.rpartition("\r")[2] == (
        f"peftlab: {out / 'ants.html'}: the report's notebook failed (OSError: [Errno 28] No space left on device)\n"
    )
    assert contents(out / "ants_model") == {"config.json": b"new"}
    quick["error"] = ""
    assert main(line) == 0
    assert contents(out / "ants_model") == {"config.json": b"newer"}
    assert sorted(p.name for p in out.iterdir()) == ["ants.html", "ants_model"]


@pytest.mark.parametrize("stop", [OSError("the disk is gone"), KeyboardInterrupt()])
def test_the_earlier_model_comes_back_where_the_new_one_cannot_take_its_place(stop, quick, tmp_path, monkeypatch):
    line, move = command(photos(tmp_path / "ants"), tmp_path / "out"), os.replace

    def moved(old, new):
        if Path(new).name == "ants_model" and "config.json" in contents(Path(old)) and quick["model"] == "newer":
            quick["model"] = "moved back"
            raise stop
        move(old, new)

    assert main(line) == 0
    quick["model"] = "newer"
    monkeypatch.setattr(os, "replace", moved)
    assert main(line) in (1, 130)
    assert contents(tmp_path / "out" / "ants_model") == {"config.json": b"new"}


def test_an_empty_folder_is_no_obstacle(quick, tmp_path):
    (tmp_path / "out" / "ants_model").mkdir(parents=True)
    assert main(command(photos(tmp_path / "ants"), tmp_path / "out")) == 0
    assert contents(tmp_path / "out" / "ants_model") == {"config.json": b"new"}


@pytest.mark.parametrize("name", ["ants", "käfer", 'a"b', "<script>"])
def test_the_page_never_names_the_folder_that_was_made_for_its_notebook(name, quick, tmp_path):
    """However the paths of images and of the output are spelled in cells, in metadata and in JSON."""
    page, _ = build_report(photos(tmp_path / name), out := tmp_path / 'the "é" \\ folder', **FAST)
    html = page.read_text()
    [saved_notebook] = saved(html, "application/x-ipynb+json")
    assert "-peftlab" not in html + saved_notebook
    nb, values = nbformat.reads(saved_notebook, 4), {}
    [injected] = [cell.source for cell in nb.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    exec(injected, values)
    assert values["out"] == nb.metadata.papermill.parameters.out == str(out)
    assert nb.cells[-1].outputs[0].text == f"saved: {out / name}_model"


@pytest.mark.parametrize("what", ["out", "page"])
def test_a_place_that_cannot_be_written_is_said_before_training(what, quick, tmp_path, monkeypatch, capsys):
    out, access = tmp_path / "out", os.access
    if what == "page":
        (out / "ants.html").mkdir(parents=True)
    else:
        monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(out) and access(path, mode))
    monkeypatch.setattr(report, "forecast", lambda comparison: pytest.fail("something was timed"))
    assert main(command(photos(tmp_path / "ants"), out)) == 2
    error = capsys.readouterr().err.rpartition("\r")[2]
    assert "ants.html: " in error and error.count("\n") == 1
    assert "may not be written to" in error or "is a folder" in error


def test_a_report_on_another_folder_of_the_same_name_is_not_written_over(quick, tmp_path, capsys):
    mine, yours = (photos(tmp_path / owner / "it's <ants>") for owner in ("me", "you"))
    out = tmp_path / "out"
    assert main(command(mine, out)) == 0 and main(command(mine, out)) == 0
    before = contents(out)
    assert main(command(yours, out)) == 2
    assert f"the report is on {str(mine)!r}; name another folder (--out)" in capsys.readouterr().err
    assert contents(out) == before
    assert main(command(yours, tmp_path / "other")) == 0


def missing(folder):
    return folder / "nowhere"


def no_classes(folder):
    photos(folder, 1)
    for path in (folder / "class 0").iterdir():
        path.rename(folder / path.name)
    (folder / "class 0").rmdir()
    return folder


def truncated(folder):
    path = photos(folder) / "class 1" / "3.png"
    path.write_bytes(path.read_bytes()[:200])
    return folder


BAD = {
    missing: "no such folder or CSV file",
    no_classes: "Put the images of each class into a folder of its own",
    truncated: "3.png: not a readable image",
    lambda folder: photos(folder, each=2): "2 different images left, and 3 are needed",
    lambda folder: photos(folder, classes=1): "1 class, 'class 0'; two are needed",
}


@pytest.mark.parametrize("make", BAD)
def test_a_bad_folder_gets_one_sentence(make, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "photos"
    assert main(["report", str(make(folder)), "--backbone", "peftlab_vit_mini", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.rpartition("peftlab:")[2]
    assert BAD[make] in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("folder", "says"),
    [("", "names no file or folder"), ("beatles", "beatles: no such folder or CSV file, and no task")],
)
def test_a_name_without_a_folder_is_not_taken_for_another(folder, says, tmp_path, monkeypatch, capsys):
    """Nor are all tasks listed to somebody who has mistyped a folder; the empty text is not the folder one is in."""
    monkeypatch.chdir(photos(tmp_path / "beetles"))
    assert main(["report", folder]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and len(error) < 200


def test_numbers_that_mean_nothing_are_refused_before_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    line = command(photos(tmp_path / "p"), tmp_path / "out")
    for more, message in ((["--methods", "lora,lore"], "lore"), (["--minutes", "0.00001"], "nothing fits")):
        assert main([*line, *more]) == 2
        assert message in capsys.readouterr().err


def test_the_notebook_has_what_the_command_sets():
    cells = [c for c in json.loads(NOTEBOOK.read_text())["cells"] if "parameters" in c["metadata"].get("tags", [])]
    names = re.findall(r"^(\w+) =", "".join(cells[0]["source"]), re.M)
    assert names == [
        "profile",
        "backbone",
        "folder",
        "img_size",
        "methods",
        "seeds",
        "minutes",
        "budget",
        "epochs",
        "out",
    ]
    assert list(METHODS) == json.loads(re.search(r"methods = (.*)", "".join(cells[0]["source"]))[1])
