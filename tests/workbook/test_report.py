"""The report on a reader's own images: one page and one model, or nothing."""

import json
import re

import numpy as np
import pytest
import timm
from PIL import Image

from peftlab.cli import main
from peftlab.common.errors import PeftlabError
from peftlab.workbook import report
from peftlab.workbook.page.references import external_references
from peftlab.workbook.report import METHODS, NOTEBOOK, build_report

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
    """One report -> (its folder, whether it ran, printed lines)."""
    root, lines = tmp_path_factory.mktemp("report"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEFTLAB_CACHE", str(root / "cache"))
        patch.setenv("PEFTLAB_RUNS", str(root / "runs"))
        patch.setattr(report, "say", lines.append)
        (root / "out").mkdir()
        (root / "out" / "beetles.pdf").write_bytes(b"of an earlier report")
        page, ok = build_report(photos(root / "beetles"), root / "out", minutes=10, **FAST)
    assert page == root / "out" / "beetles.html"
    return root, ok, lines


def test_a_report_is_one_page_and_one_model(made):
    root, ok, lines = made
    assert ok and sorted(p.name for p in (root / "out").iterdir()) == ["beetles.html", "beetles_model"]
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
    command = ["report", str(photos(tmp_path / "p")), "--backbone", "peftlab_vit_mini", "--img-size", "32"]
    for more, message in ((["--methods", "lora,lore"], "lore"), (["--minutes", "0.00001"], "nothing fits")):
        assert main([*command, *more]) == 2
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
