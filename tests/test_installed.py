"""The wheel: it carries what a lesson needs, and works far from the repository, writing nothing into the package."""

import os
import subprocess
import sys
import venv
import zipfile

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from peftlab.common.paths import REPOSITORY
from peftlab.workbook.lint.cleanliness import KERNELSPEC

PARAMETERS = 'profile = "fast"\nbackbone = "peftlab_vit_mini"\ntask = "dsprites_loc"\ndata_root = None\nseed = 0'


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, REPOSITORY]
    subprocess.run(command, check=True, capture_output=True)
    [file] = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def elsewhere(wheel, tmp_path_factory):
    """A fresh environment with the wheel in it -> run(command) in a folder of its own.

    Dependencies are those of this environment: its packages follow on the path, but its .pth files, and so a peftlab
    that it has in editable mode, do not count there.
    """
    root = tmp_path_factory.mktemp("elsewhere")
    home = root / "home"
    home.mkdir()
    venv.create(root / "env", with_pip=False)
    python = root / "env" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, wheel], check=True, capture_output=True)
    [packages] = (root / "env" / "lib").glob("python*/site-packages")
    ours = [p for p in sys.path if p.endswith("site-packages")]
    (packages / "dependencies.pth").write_text("".join(f"{p}\n" for p in ours))
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PEFTLAB_", "PYTHONPATH", "JUPYTER_", "XDG_"))}
    env |= {"HOME": str(home), "PATH": f"{python.parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    env |= {"JUPYTER_PATH": f"{sys.prefix}/share/jupyter", "PEFTLAB_HEADLESS": "1"}

    def run(*command):
        out = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True)
        assert out.returncode == 0, out.stdout + out.stderr
        return out.stdout

    run.folder, run.package = root, packages / "peftlab"
    return run


def files_of(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc"}


def test_the_wheel_carries_all_that_git_knows_and_nothing_that_was_drawn(wheel):
    listed = ["git", "ls-files", "peftlab", "notebooks", "results", "data"]
    tracked = subprocess.run(listed, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout.splitlines()
    there = [p for p in tracked if (REPOSITORY / p).exists()]
    assert there
    names = zipfile.ZipFile(wheel).namelist()
    assert {p if p.startswith("peftlab/") else f"peftlab/repository/{p}" for p in there} <= set(names)
    assert not [name for name in names if "/synthetic/" in name and not name.endswith(".py")]
    assert wheel.stat().st_size < 60e6


def test_an_installed_package_works_in_any_folder(elsewhere):
    before = files_of(elsewhere.package)
    code = "import peftlab as pl; print(pl.__file__, len(pl.read_results('published')) > 0)"
    assert elsewhere("python", "-c", code).split() == [str(elsewhere.package / "__init__.py"), "True"]
    assert elsewhere("peftlab", "--version").strip() == elsewhere("python", "-m", "peftlab", "--version").strip()

    def commands(*lines):  # one after the other in one process, which has imported what they need only once
        code = (
            "import sys; from peftlab.cli import main\n"
            "sys.exit(any([print(end='\\f') or main(line.split()) for line in sys.argv[1:]]))"
        )
        return elsewhere("python", "-c", code, *lines).split("\f")[1:]

    listed, _, said, ledger = commands(
        "backbones", "init course", "fit linear dsprites_loc --epochs 1 --img-size 16", "ledger"
    )
    assert "2.72 M parameters" in listed and "21.63 M parameters" in listed
    lessons = sorted(p.name for p in (REPOSITORY / "notebooks").glob("*.ipynb"))
    assert sorted(p.name for p in (elsewhere.folder / "course").glob("*.ipynb")) == lessons

    assert "synthetic" in said and len(list((elsewhere.folder / "runs").iterdir())) >= 1
    assert (elsewhere.folder / "home" / ".cache" / "peftlab" / "synthetic").is_dir() or sys.platform == "darwin"
    assert "dsprites_loc" in ledger
    assert files_of(elsewhere.package) == before


def test_an_installed_package_makes_pages(elsewhere):
    """One more notebook is put among the installed ones, for those take a minute each."""
    cells = [new_markdown_cell("# 99 Tiny"), new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})]
    cells += [new_code_cell("import peftlab as pl\nprint(pl.load_backbone(backbone).embed_dim)")]
    nb = new_notebook(cells=cells, metadata={"kernelspec": KERNELSPEC})
    tiny = elsewhere.package / "repository" / "notebooks" / "99_tiny.ipynb"
    nbformat.write(nb, tiny)
    before = files_of(elsewhere.package)
    assert "1 run, 0 failed" in elsewhere("peftlab", "workbook", "--only", "99")
    page = (elsewhere.folder / "reports" / "99_tiny.html").read_text()
    assert "192" in page and 'href="index.html"' in page
    assert files_of(elsewhere.package) == before
