"""A reader's copy of the lessons: complete, kept up to date, and never overwritten; and how JupyterLab is opened."""

import json
import re
import sys
from pathlib import Path

import nbformat
import pytest
from faults import STOPS, stopped_everywhere
from IPython.core.interactiveshell import InteractiveShell
from jupyter_client.kernelspec import get_kernel_spec
from nbformat.v4 import new_code_cell, new_notebook, new_output

import peftlab.workbook
from peftlab.common import files
from peftlab.common.errors import PeftlabError
from peftlab.workbook.first_cells import ADVICE, load_ipython_extension
from peftlab.workbook.lessons import LESSONS, START_PAGE, copy_lessons, draw_data, lesson_folder, open_lab
from peftlab.workbook.page.cells import title
from peftlab.workbook.run import find_notebooks


def lesson(folder, source, name="00_a.ipynb", **cell):
    folder.mkdir(exist_ok=True)
    nb = new_notebook(cells=[new_code_cell(source, id="a", **cell)])
    nbformat.write(nb, folder / name)
    return folder


@pytest.fixture
def lessons(tmp_path):
    """A folder of one lesson and a start page."""
    folder = lesson(tmp_path / "lessons", "1")
    (folder / START_PAGE).write_text("# Start\n")
    return folder


def source(file):
    return nbformat.read(file, 4).cells[0].source


def test_the_start_page_leads_through_all_lessons():
    rows = re.findall(r"^\| \[(.+?)\]\((.+?)\) \| (\d+) \| .+ \|$", (LESSONS / START_PAGE).read_text(), re.M)
    wanted = []
    for file in find_notebooks(LESSONS):
        nb = nbformat.read(file, 4)
        minutes = re.search(r"Time budget\W+(\d+) minutes", nb.cells[0].source)
        wanted.append((title(nb), file.name, minutes[1]))
    assert rows == wanted


def test_lessons_come_and_come_again_where_deleted(lessons, tmp_path):
    mine = tmp_path / "mine" / "course"
    assert copy_lessons(mine, lessons) == []
    assert sorted(p.name for p in mine.iterdir()) == [".lessons.json", "00_a.ipynb", START_PAGE]
    (mine / "00_a.ipynb").unlink()
    before = (mine / START_PAGE).stat().st_mtime_ns
    assert copy_lessons(mine, lessons) == []
    assert source(mine / "00_a.ipynb") == "1"
    assert (mine / START_PAGE).stat().st_mtime_ns == before, "an unchanged file is not written again"
    kept = {file: file.stat().st_mtime_ns for file in (mine, *mine.iterdir())}  # a folder's changes with any rename
    assert copy_lessons(mine, lessons) == []
    assert {file: file.stat().st_mtime_ns for file in kept} == kept, "so that a folder may be read-only"


def test_an_unchanged_lesson_is_brought_up_to_date(lessons, tmp_path):
    mine = tmp_path / "mine"
    copy_lessons(mine, lessons)
    nb = nbformat.read(mine / "00_a.ipynb", 4)
    nb.metadata.language_info = {"name": "python", "version": "3.11.7"}  # as JupyterLab does on opening
    nbformat.write(nb, mine / "00_a.ipynb")
    lesson(lessons, "2")
    assert copy_lessons(mine, lessons) == []
    assert source(mine / "00_a.ipynb") == "2"


@pytest.mark.parametrize("change", [{"source": "mine"}, {"outputs": [new_output("stream", text="1")]}])
def test_what_a_reader_changed_stays_and_the_newer_lesson_comes_next_to_it(lessons, tmp_path, change):
    mine = tmp_path / "mine"
    copy_lessons(mine, lessons)
    lesson(mine, **{"source": "1", **change})
    kept = (mine / "00_a.ipynb").read_bytes()
    assert copy_lessons(mine, lessons) == ["kept as you changed them: 00_a.ipynb"]
    assert not list(mine.glob("*.updated.*")), "nothing is newer"

    lesson(lessons, "2")
    told = copy_lessons(mine, lessons)
    assert "newer lesson" in told[0] and "00_a.updated.ipynb" in told[0]
    assert (mine / "00_a.ipynb").read_bytes() == kept and source(mine / "00_a.updated.ipynb") == "2"
    assert len(copy_lessons(mine, lessons)) == 1, "told once"

    lesson(mine, "mine, too", "00_a.updated.ipynb")
    lesson(lessons, "3")
    assert "you changed 00_a.updated.ipynb, too" in copy_lessons(mine, lessons)[0]
    assert source(mine / "00_a.updated.ipynb") == "mine, too"
    (mine / "00_a.updated.ipynb").unlink()
    copy_lessons(mine, lessons)
    assert source(mine / "00_a.updated.ipynb") == "3" and (mine / "00_a.ipynb").read_bytes() == kept


def test_a_readers_own_file_of_the_same_name_stays(lessons, tmp_path):
    mine = lesson(tmp_path / "mine", "mine")
    (mine / START_PAGE).write_text("my own page")
    told = copy_lessons(mine, lessons)
    assert source(mine / "00_a.ipynb") == "mine" and (mine / START_PAGE).read_text() == "my own page"
    assert len(told) == 3 and source(mine / "00_a.updated.ipynb") == "1"


def test_the_lessons_themselves_and_a_file_are_refused(lessons, tmp_path):
    with pytest.raises(PeftlabError, match="holds the lessons themselves"):
        copy_lessons(lessons, lessons)
    with pytest.raises(PeftlabError, match="is a file"):
        copy_lessons(lessons / START_PAGE, lessons)


def test_a_reader_works_in_the_named_folder_or_here_or_in_lab(lessons, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert lesson_folder("x") == (tmp_path / "x").resolve()
    assert lesson_folder().name == "lab"
    copy_lessons(tmp_path, lessons)
    assert lesson_folder() == tmp_path.resolve()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # its own
def test_jupyterlab_opens_on_the_start_page_and_asks_nothing(lessons, tmp_path, monkeypatch):
    from jupyter_server.serverapp import ServerApp
    from jupyterlab.labapp import LabApp
    from jupyterlab_server.settings_utils import _get_overrides

    seen = {}

    def start(server):
        [app] = server.extension_manager.extension_apps["jupyterlab"]
        seen.update(url=app.default_url, news=app.news_url, updates=app.check_for_updates_class.__name__)
        seen.update(root=server.root_dir, workspaces=app.workspaces_dir, as_root=server.allow_root)

    for name in ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR"):  # no reader's own configuration
        monkeypatch.setenv(f"JUPYTER_{name}", str(tmp_path / name))
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "")
    monkeypatch.setenv("JUPYTER_PATH", "")
    monkeypatch.setattr(ServerApp, "start", start)
    monkeypatch.setattr(ServerApp, "init_signal", lambda server: None)  # Ctrl-C stays ours
    try:
        open_lab(tmp_path)
    finally:
        LabApp.clear_instance()
        ServerApp.clear_instance()
    assert seen == {
        "url": f"/lab/tree/{START_PAGE}",
        "news": None,
        "updates": "NeverCheckForUpdate",
        "root": str(tmp_path),
        "workspaces": f"{tmp_path}/.workspaces",
        "as_root": True,
    }
    assert "--InteractiveShellApp.extra_extensions=peftlab.workbook.first_cells" in get_kernel_spec("python3").argv
    overrides, error = _get_overrides("")
    assert not error
    assert overrides["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"
    assert overrides["@jupyterlab/docmanager-extension:plugin"]["defaultViewers"] == {"markdown": "Markdown Preview"}


def test_settings_are_ones_that_jupyterlab_knows():
    """Names of settings change with JupyterLab, and an unknown one is silently ignored."""
    file = Path(peftlab.workbook.__file__).parent / "jupyter" / "labconfig" / "default_setting_overrides.json"
    for plugin, settings in json.loads(file.read_text()).items():
        schema = Path(sys.prefix, "share/jupyter/lab/schemas", *plugin.split(":")).with_suffix(".json")
        assert set(settings) <= set(json.loads(schema.read_text())["properties"])


@pytest.mark.parametrize("how", STOPS)
def test_a_copy_stopped_before_any_file_operation_goes_on_and_a_readers_work_stays(
    how, lessons, tmp_path, monkeypatch
):
    monkeypatch.setattr(files, "STALE", -1)  # an hour later
    mine = lesson(tmp_path / "mine", "mine")
    kept = (mine / "00_a.ipynb").read_bytes()
    lesson(lessons, "2", "01_b.ipynb")

    def is_kept():
        assert (mine / "00_a.ipynb").read_bytes() == kept

    assert stopped_everywhere(lambda: copy_lessons(mine, lessons), mine, how, is_kept) > 15


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe\x00"])
def test_without_a_readable_record_every_difference_is_the_readers(content, lessons, tmp_path):
    mine = tmp_path / "mine"
    copy_lessons(mine, lessons)
    lesson(mine, "mine")
    (mine / ".lessons.json").write_bytes(content)
    assert "kept as you changed them: 00_a.ipynb" in copy_lessons(mine, lessons)
    assert source(mine / "00_a.ipynb") == "mine"


def test_a_copy_that_is_no_text_is_the_readers_too(lessons, tmp_path):
    mine = tmp_path / "mine"
    copy_lessons(mine, lessons)
    (mine / "00_a.ipynb").write_bytes(b"\xff\xfe\x00")
    assert "kept as you changed them: 00_a.ipynb" in copy_lessons(mine, lessons)
    assert (mine / "00_a.ipynb").read_bytes() == b"\xff\xfe\x00"


def test_a_cell_run_before_the_first_ones_says_so(capsys):
    shell = InteractiveShell(user_ns={})
    load_ipython_extension(shell)
    assert isinstance(shell.run_cell("vit").error_in_exec, NameError)
    assert capsys.readouterr().out == f"NameError: name 'vit' is not defined\n{ADVICE}\n"
    shell.run_cell("pl = 1")
    assert isinstance(shell.run_cell("vit").error_in_exec, NameError)
    said = capsys.readouterr().out
    assert "Traceback (most recent call last)" in said and ADVICE not in said


def test_images_of_the_lessons_are_drawn_once(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path))
    drawn = []
    monkeypatch.setattr("peftlab.tasks.synthetic.drawing._write", lambda spec, folder: drawn.append(spec.name))
    monkeypatch.setattr("peftlab.tasks.captions.draw_scenes", lambda folder, sizes: drawn.append("scenes"))
    draw_data()
    draw_data()
    assert drawn == ["digits", "textures", "clevr_count", "scenes"]
