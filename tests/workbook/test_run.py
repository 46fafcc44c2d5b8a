"""The report site: one build over good, failing and dying notebooks, looked at from all sides; refusals; Ctrl-C."""

import asyncio
import gc
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from html.parser import HTMLParser
from textwrap import dedent

import joblib
import nbformat
import pytest
from faults import STOPS, contents, stopped_everywhere
from nbclient.exceptions import DeadKernelError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from peftlab.cli import main
from peftlab.common import files
from peftlab.common.errors import PeftlabError
from peftlab.workbook.lint.cleanliness import KERNELSPEC
from peftlab.workbook.math import markdown_to_html, unknown_math
from peftlab.workbook.page.provenance import describe_commit, read_commit
from peftlab.workbook.page.references import external_references
from peftlab.workbook.page.render import render_page
from peftlab.workbook.run import (
    PageResult,
    _ThisPython,
    build_workbook,
    check_parameters,
    find_notebooks,
    publish,
    run_notebook,
)

PARAMETERS = 'profile = "full"\nbackbone = "mini"\ntask = "dsprites_ori"\ndata_root = None\nseed = 0'
GOOD_TEXT = r"""# 00 A good one

We see that $W' = W + \tfrac{\alpha}{r} BA$ is all there is.

$$\begin{aligned} y &= Wx \\ &\sim \operatorname{softmax}(z) \end{aligned}$$

Code keeps its dollars: `echo $HOME$`, and

```python
price = "$5$"
```

| method | rank |
|---|---|
| LoRA, $\lvert r \rvert = 8$ | 8 |

<details><summary>Solution: $r = 4$</summary>

Because $r \ll d$.

</details>

Read [LoRA](https://arxiv.org/abs/2106.09685).
"""
FIGURE = """import matplotlib.pyplot as plt, numpy as np
fig, ax = plt.subplots(figsize=(6, 3))
ax.plot(np.sin(np.linspace(0, 9, 200)), label="loss"); ax.legend()
plt.show()"""
NOISE = """import sys, warnings, os
from tqdm import tqdm
for _ in tqdm(range(3), desc="fit", file=sys.stderr, leave=False): pass
for _ in tqdm(iter(range(3)), file=sys.stderr): pass
warnings.warn("a real warning")
print("headless:", os.environ["PEFTLAB_HEADLESS"], "profile:", profile, "seed:", seed)"""
LOADING = """from peftlab.common.used import note_use
for name in ("dtd", "dtd", "textures (synthetic)"):
    note_use("task", name, lambda: "2279d92aac21")
print('reached the last')"""
WIDGET = """import ipywidgets
display(ipywidgets.IntSlider(description="rank"))"""


def notebook(folder, name, *cells, parameters=PARAMETERS):
    """Write a notebook; strings are code cells."""
    cells = [c if not isinstance(c, str) else new_code_cell(c) for c in cells]
    if parameters is not None:
        cells.insert(1, new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    nb = new_notebook(cells=cells, metadata={"kernelspec": KERNELSPEC})
    nbformat.write(nb, folder / name)
    return folder / name


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """One build of four notebooks, written to disk out of order -> (folder of the site, results, printed lines)."""
    root = tmp_path_factory.mktemp("workbook")
    folder = root / "notebooks"
    folder.mkdir()
    dying = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    notebook(folder, "03_last.ipynb", new_markdown_cell("# 03 Last\n\nStill runs."), LOADING)
    notebook(folder, "02_dies.ipynb", new_markdown_cell("# 02 Dies"), dying)
    notebook(folder, "01_fails.ipynb", new_markdown_cell("# 01 Fails"), "print('before')", "1 / 0", "print('after')")
    notebook(
        folder,
        "00_good.ipynb",
        new_markdown_cell(GOOD_TEXT),
        FIGURE,
        NOISE,
        WIDGET,
        "import pandas\npandas.DataFrame({'a': [1.5]})",
    )
    notebook(folder, "scratch.ipynb", new_markdown_cell("a reader's own"), "1 / 0", parameters=None)
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLBACKEND", "Agg")  # as CI sets it; the pages must have their pictures all the same
        patch.setattr("peftlab.workbook.run.say", lines.append)
        results = build_workbook(folder, root / "site")
    return root / "site", results, lines


def page(site, name):
    return (site[0] / f"{name}.html").read_text()


def visible_text(html):
    """What a reader can see of a page: no markup, no styles."""
    return re.sub(r"<[^>]+>", "", re.sub(r"(?s)<style.*?</style>", "", html))


def test_notebooks_run_in_the_order_of_their_names(site):
    assert [r.name for r in site[1]] == ["00_good", "01_fails", "02_dies", "03_last"]
    assert [r.status for r in site[1]] == ["ok", "failed", "failed", "ok"]
    assert not all(r.ok for r in site[1])
    assert any("01_fails: FAILED (ZeroDivisionError" in line for line in site[2])
    assert "4 run, 2 failed" in site[2][-1]


def test_failed_notebook_is_kept_with_its_traceback(site):
    html = page(site, "01_fails")
    assert "ZeroDivisionError: division by zero" in html and 'role="alert"' in html
    target = re.search(r'href="#(cell-id=[^"]+)"', html)[1]
    assert f'id="{target}"' in html, "the banner's link leads to the cell"
    assert "before" in visible_text(html) and "papermill" not in visible_text(html).lower()
    executed = nbformat.read(site[0] / "01_fails.ipynb", 4)
    assert executed.metadata.peftlab.error.startswith("ZeroDivisionError")


def test_killed_kernel_is_a_failed_page_and_not_a_hang(site):
    assert "DeadKernelError" in site[1][2].error
    assert site[1][2].seconds < 30
    assert "memory ran out" in page(site, "02_dies") and "Go to the cell" in page(site, "02_dies")
    assert "reached the last" in page(site, "03_last")


@pytest.mark.parametrize("name", ["00_good", "01_fails", "02_dies", "03_last", "index"])
def test_page_is_self_contained_and_well_nested(site, name):
    html = page(site, name)
    assert external_references(html) == []
    assert "<script" not in html
    nesting = Nesting()
    nesting.feed(html)
    assert nesting.open == [] and nesting.errors == []


class Nesting(HTMLParser):
    """Whether the tags of a page close in the order in which they opened."""

    void = {"meta", "link", "img", "br", "hr", "input", "col"}

    def __init__(self):
        super().__init__()
        self.open, self.errors = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if tag not in self.void and (not self.open or self.open.pop() != tag):
            self.errors.append((tag, self.getpos()))


def test_formulas_become_mathml_and_code_keeps_its_dollars(site):
    html = page(site, "00_good")
    assert html.count("<math") == 5
    assert html.count('display="block"') == 1 and html.count("<th>method</th>") == 1
    text = visible_text(html)
    assert "$HOME$" in text and '"$5$"' in text
    assert text.count("$") == 4, "no formula is left as its source"


def test_aligned_formulas_have_their_rows(site):
    formula = re.search(r'(?s)<math[^>]*display="block".*?</math>', page(site, "00_good"))[0]
    assert formula.count("<mtr>") == 2 and "\N{TILDE OPERATOR}" in formula


def test_a_formula_beyond_us_stays_readable():
    assert "nosuchmacro" in markdown_to_html(r"so $\nosuchmacro{x}$ here")
    assert unknown_math(r"\nosuchmacro{x}") == r"\nosuchmacro"
    assert unknown_math(r"\frac{a}{b} \& c") is None


def test_solutions_stay_foldable(site):
    [details] = re.findall(r'(?s)<details class="solution">.*?</details>', page(site, "00_good"))
    assert "<summary>Solution: <math" in details and "Because <math" in details


def test_pictures_in_raw_html_are_embedded_and_leave_details_open(tmp_path):
    (tmp_path / "x.png").write_bytes(b"png")
    html = markdown_to_html('<details><img src="x.png" alt="">\n\nhidden\n\n</details>', folder=tmp_path)
    assert 'src="data:image/png;base64,' in html and html.index("hidden") < html.index("</details>")


def test_bars_and_widgets_are_gone_and_warnings_stay(site):
    text = visible_text(page(site, "00_good"))
    assert "it/s" not in text and "0%" not in text
    assert "UserWarning: a real warning" in text
    assert "IntSlider" not in text.replace("ipywidgets.IntSlider(", "")
    assert "widget-view" not in re.sub('href="data:[^"]*"', "", page(site, "00_good"))


def test_parameters_reach_the_notebook_and_the_page_says_fast(site):
    text = visible_text(page(site, "00_good"))
    assert "headless: 1 profile: fast seed: 0" in text
    assert "small runs for teaching, not results to cite" in text
    assert site[1][0].commit == describe_commit() and read_commit(describe_commit()) in text
    assert "<code>seed</code></th><td><code>0</code>" in page(site, "00_good")
    assert 'profile = "full"' not in text, "the defaults that were not used are not shown"


def test_the_page_lists_all_that_the_notebook_loaded(site):
    """What it trained on as well as what it only looked at; each notebook's own alone."""
    assert site[1][0].used == []
    assert nbformat.read(site[0] / "03_last.ipynb", 4).metadata.peftlab.used == [
        ["task", "dtd", "2279d92aac21"],
        ["task", "textures (synthetic)", "2279d92aac21"],
    ]
    assert "<td>task</td><td>textures (synthetic)</td><td><code>2279d92aac21</code>" in page(site, "03_last")


def test_page_has_picture_with_alternative_text_and_navigation(site):
    html = page(site, "01_fails")
    assert 'rel="prev" href="00_good.html"' in html and 'rel="next" href="02_dies.html"' in html
    picture = re.search(r"<img[^>]*data:image/png[^>]*>", page(site, "00_good"))[0]
    assert 'alt="Figure: A good one"' in picture or 'alt="Figure: 00 A good one"' in picture
    assert page(site, "00_good").count("<h1") == 1


def test_index_lists_every_notebook(site):
    html = page(site, "index")
    for name in ("00_good", "01_fails", "02_dies", "03_last"):
        assert f'<a href="{name}.html">' in html
    assert html.count("data:image/png") == 1
    assert "is all there is" in html and "<math" in html
    assert "2 of 4 ran" in html and "2 failed" in html and "scratch" not in html
    assert "torch 2" in html and "peftlab workbook --profile fast" in html


def test_no_partial_files(site):
    names = sorted(p.name for p in site[0].iterdir())
    stems = ["00_good", "01_fails", "02_dies", "03_last"]
    assert names == sorted([f"{s}{e}" for s in stems for e in (".html", ".ipynb")] + ["index.html"])


# --- refusals: before any kernel starts ------------------------------------------------------------------------------


def test_an_unknown_profile_is_refused(tmp_path):
    notebook(tmp_path, "00_a.ipynb", new_markdown_cell("# 00 A"))
    with pytest.raises(PeftlabError, match="unknown profile 'quick'"):
        build_workbook(tmp_path, tmp_path / "site", "quick")
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize(
    "cells, message",
    [
        ([], "0 cells carry"),
        ([PARAMETERS] * 2, "2 cells carry"),
        ([PARAMETERS.replace("0", "1 + f()")], "not a literal"),
    ],
)
def test_notebook_without_one_literal_parameters_cell_is_refused(tmp_path, cells, message):
    cells = [new_code_cell(c, metadata={"tags": ["parameters"]}) for c in cells]
    path = notebook(tmp_path, "00_a.ipynb", *cells, parameters=None)
    with pytest.raises(PeftlabError, match=f"00_a.ipynb: .*{message}"):
        check_parameters(path)


def test_empty_folder_and_unknown_only_are_refused(tmp_path):
    with pytest.raises(PeftlabError, match="no notebook named"):
        find_notebooks(tmp_path)
    notebook(tmp_path, "00_a.ipynb", new_markdown_cell("# 00 A"))
    with pytest.raises(PeftlabError, match="no notebook starts with '07'"):
        build_workbook(tmp_path, tmp_path / "site", only="07")


def test_the_kernel_is_this_python_whatever_is_registered(tmp_path, monkeypatch):
    fake = tmp_path / "kernels" / "python3"
    fake.mkdir(parents=True)
    (fake / "kernel.json").write_text(json.dumps({"argv": ["/bin/false"], "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    assert _ThisPython(kernel_name="python3").format_kernel_cmd()[0] == sys.executable


def test_a_kernel_finds_what_was_meant_where_the_build_was_started(tmp_path, monkeypatch):
    """Though it runs in the notebooks' folder, as papermill does meanwhile."""
    monkeypatch.chdir(tmp_path)
    names = ("PEFTLAB_DATA", "PEFTLAB_CACHE", "PEFTLAB_RUNS")
    for name in names:
        monkeypatch.setenv(name, name.lower())
    (tmp_path / "notebooks").mkdir()
    shows = f"import os\nfor name in {names}: print(name, os.environ[name])"
    path = notebook(tmp_path / "notebooks", "00_a.ipynb", new_markdown_cell("# 00 A"), shows)
    nb, result = run_notebook(path, {"profile": "fast"})
    assert result.ok
    assert nb.cells[-1].outputs[0].text.splitlines() == [f"{name} {tmp_path / name.lower()}" for name in names]


# --- Ctrl-C and builds of a part -------------------------------------------------------------------------------------


def test_ctrl_c_keeps_what_is_finished_and_a_later_build_adds_to_it(tmp_path, capfd):
    folder, site, pid = tmp_path / "notebooks", tmp_path / "site", tmp_path / "kernel.pid"
    folder.mkdir()
    sleeping = f"import os, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\ntime.sleep(300)"
    notebook(folder, "00_a.ipynb", new_markdown_cell("# 00 A\n\n[C](02_c.ipynb) is next."), "print('first')")
    notebook(folder, "01_b.ipynb", new_markdown_cell("# 01 B"), sleeping)
    notebook(folder, "02_c.ipynb", new_markdown_cell("# 02 C"), "print('third')")
    site.mkdir()
    for name in ("00_a.pdf", "01_b.pdf"):
        (site / name).write_bytes(b"of an earlier build")
    threading.Thread(target=press_ctrl_c_once_it_exists, args=[pid], daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        build_workbook(folder, site)
    log = "".join(capfd.readouterr())
    assert (
        "stopped; the notebooks finished so far are published" in log
        and "Traceback" not in log
        and "WARNING" not in log
    )
    assert sorted(p.name for p in site.iterdir()) == ["00_a.html", "00_a.ipynb", "01_b.pdf", "index.html"]
    assert 'rel="next"' not in (site / "00_a.html").read_text()
    assert "<p>C is next.</p>" in (site / "00_a.html").read_text(), "there is no page to lead to"
    assert (site / "index.html").read_text().count("not run yet") == 2
    assert not kernel_runs(int(pid.read_text())), "the kernel of the dropped notebook is stopped"

    results = build_workbook(folder, site, only="02")
    assert [r.name for r in results] == ["02_c"]
    assert (site / "index.html").read_text().count("not run yet") == 1
    assert 'rel="next" href="02_c.html"' in (site / "00_a.html").read_text(), "the earlier page knows the new one"
    assert '<a href="02_c.html">C</a> is next.' in (site / "00_a.html").read_text()


def test_two_notebooks_at_a_time_share_the_cores(tmp_path, monkeypatch, capfd):
    """Each waits for the other; they are told in their order."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    meeting = """
        import os, pathlib, time
        pathlib.Path({!r}).touch()
        while not pathlib.Path({!r}).exists(): time.sleep(0.1)
        print("threads:", os.environ["OMP_NUM_THREADS"])"""
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    meet = dedent(meeting).format
    notebook(tmp_path, "00_a.ipynb", new_markdown_cell("# 00 A"), meet(a, b), "time.sleep(1)")
    notebook(tmp_path, "01_b.ipynb", new_markdown_cell("# 01 B"), meet(b, a), "1 / 0")
    results = build_workbook(tmp_path, tmp_path / "site", jobs=2)
    assert [(r.name, r.status) for r in results] == [("00_a", "ok"), ("01_b", "failed")]
    for name in ("00_a", "01_b"):
        assert f"threads: {max(1, joblib.cpu_count() // 2)}" in (tmp_path / "site" / f"{name}.html").read_text()
    said = capfd.readouterr().out
    assert said.index("[2/2] 01_b: running") < said.index("[1/2] 00_a: ok") and "2 run, 1 failed" in said


def test_ctrl_c_stops_all_that_run_at_a_time(tmp_path, capfd):
    pids = [tmp_path / "b.pid", tmp_path / "c.pid"]
    sleeping = """
        import os, time
        from ipykernel.connect import get_connection_file
        open({0!r} + ".files", "w").write(os.environ["PEFTLAB_USED"] + "\\n" + get_connection_file())
        open({0!r}, "w").write(str(os.getpid()))
        time.sleep(300)"""
    sleeping = dedent(sleeping)
    notebook(tmp_path, "00_a.ipynb", new_markdown_cell("# 00 A"), "print('first')")
    notebook(tmp_path, "01_b.ipynb", new_markdown_cell("# 01 B"), sleeping.format(str(pids[0])))
    notebook(tmp_path, "02_c.ipynb", new_markdown_cell("# 02 C"), sleeping.format(str(pids[1])))
    threading.Thread(target=press_ctrl_c_once_it_exists, args=[pids[1]], daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        build_workbook(tmp_path, tmp_path / "site", jobs=2)
    log = "".join(capfd.readouterr())
    assert (
        "stopped; the notebooks finished so far are published" in log
        and "1 run, 0 failed" in log
        and "Traceback" not in log
    )
    assert sorted(p.name for p in (tmp_path / "site").iterdir()) == ["00_a.html", "00_a.ipynb", "index.html"]
    for pid in pids:  # killed with the process that started them, and gone once the system has noticed
        assert any(not kernel_runs(int(pid.read_text())) or time.sleep(0.1) for _ in range(300))
        for temporary in pid.with_name(f"{pid.name}.files").read_text().splitlines():
            assert not os.path.exists(os.path.dirname(temporary)), "no temporary file outlives the build"


def test_how_an_interrupted_cell_ended_is_not_told(tmp_path, monkeypatch, capfd):
    """Ctrl-C in a terminal reaches the kernel, too. asyncio says later, with a traceback, that nobody asked."""

    def interrupted(*args, **options):
        loop = asyncio.new_event_loop()
        cells.append(loop.create_future())
        cells[0].set_exception(DeadKernelError("Kernel died"))
        loop.close()
        raise KeyboardInterrupt

    cells = []
    monkeypatch.setattr(logging.getLogger("asyncio"), "disabled", False)
    monkeypatch.setattr("papermill.execute_notebook", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_notebook(notebook(tmp_path, "00_a.ipynb", new_markdown_cell("# 00 A")), {"profile": "fast"})
    cells.clear()
    gc.collect()
    assert capfd.readouterr().err == ""


def press_ctrl_c_once_it_exists(path):
    for _ in range(600):
        if path.exists() and path.read_text():
            return os.kill(os.getpid(), signal.SIGINT)  # the main thread handles it, as it does the key

        time.sleep(0.1)


def kernel_runs(pid):
    return subprocess.run(["ps", "-p", str(pid)], capture_output=True).returncode == 0


def test_a_crash_while_writing_leaves_the_old_page_and_no_partial_file(tmp_path, monkeypatch):
    from pathlib import Path

    from peftlab.common.files import write_text

    target = tmp_path / "page.html"
    target.write_text("old")

    def half(self, text, **_):
        with self.open("w") as f:
            f.write(text[:2])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="disk full"):
        write_text(target, "new text")
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_the_index_leads_to_the_reference_where_there_is_one(tmp_path):
    notebook(tmp_path, "00_a.ipynb", new_markdown_cell("# 00 A"))
    site = tmp_path / "site"
    site.mkdir()
    publish(find_notebooks(tmp_path), site, "")
    assert "api/index.html" not in (site / "index.html").read_text()
    (site / "api").mkdir()
    (site / "api" / "index.html").write_text("")
    publish(find_notebooks(tmp_path), site, "")
    assert 'href="api/index.html"' in (site / "index.html").read_text()


def test_a_site_for_readers_has_no_exercises_and_says_how_it_was_made(tmp_path, no_kernels):
    exercise = new_markdown_cell("### Exercise 1: count\n\n*Easy, 3 minutes.* How many?")
    notebook(tmp_path, "00_a.ipynb", new_markdown_cell("# 00 A"), exercise, 'pl.check("a.1", ...);')
    for reader in (False, True):
        build_workbook(tmp_path, tmp_path / "site", reader=reader)
        text = visible_text((tmp_path / "site" / "00_a.html").read_text())
        assert ("How many?" in text, "pl.check" in text) == (not reader, not reader)
        assert ("--reader" in (tmp_path / "site" / "index.html").read_text()) == reader


@pytest.mark.parametrize(("statuses", "code"), [("ok ok", 0), ("ok failed", 1), ("failed ok", 1)])
def test_one_notebook_that_fails_is_the_exit_code(statuses, code, tmp_path, monkeypatch):
    pages = [PageResult("00_a", "00 A", status, 1.0, "fast", "", "") for status in statuses.split()]
    monkeypatch.setattr("peftlab.workbook.run.build_workbook", lambda *args, **how: pages)
    assert main(["workbook", "--out", str(tmp_path)]) == code


@pytest.mark.parametrize("only", ["", " , "])
def test_a_choice_of_nothing_is_refused(only, tmp_path):
    notebook(tmp_path, "00_a.ipynb", new_markdown_cell("# 00 A"))
    with pytest.raises(PeftlabError, match="names no notebook"):
        build_workbook(tmp_path, tmp_path / "site", only=only)


# --- whatever stops a build, and whatever lies where it writes -----------------------------------------------------


@pytest.fixture
def no_kernels(monkeypatch):
    """Notebooks that run in no time, and always with the same result."""

    def run_notebook(path, values, environment, scratch):
        nb = nbformat.read(path, as_version=4)
        result = PageResult(path.stem, path.stem, "ok", 1.0, values["profile"], "2025-01-01 00:00 UTC", environment)
        nb.metadata["peftlab"] = asdict(result)
        return nb, result

    monkeypatch.setattr("peftlab.workbook.run.run_notebook", run_notebook)


def made_once(render):
    """A page is made once for arguments of the same text."""
    pages = {}

    def rendered(*args, **options):
        key = repr((args, options))
        return pages[key] if key in pages else pages.setdefault(key, render(*args, **options))

    return rendered


@pytest.mark.parametrize("how", STOPS)
def test_a_build_stopped_before_any_file_operation_goes_on_to_the_same_bytes(how, tmp_path, no_kernels, monkeypatch):
    """And no page is ever half a page: what has the name of one is one."""
    monkeypatch.setattr(files, "STALE", -1)  # an hour later
    monkeypatch.setattr("peftlab.workbook.run.render_page", made_once(render_page))  # it writes nothing itself
    site, folder = tmp_path / "site", tmp_path / "notebooks"
    folder.mkdir()
    notebook(folder, "00_a.ipynb", new_markdown_cell("# 00 A"), "1")
    build_workbook(folder, tmp_path / "whole")
    pages = {p.name: p.read_bytes() for p in (tmp_path / "whole").iterdir() if p.name != "index.html"}

    def whole_pages():
        for page in site.glob("00_a.*"):
            assert page.is_dir() or page.read_bytes() == pages[page.name]

    assert stopped_everywhere(lambda: build_workbook(folder, site), site, how, whole_pages) > 10


def test_a_folder_that_cannot_be_written_to_is_said_before_anything_runs(tmp_path, monkeypatch):
    access, site, ran = os.access, tmp_path / "site", []
    site.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(site) and access(path, mode))
    monkeypatch.setattr("peftlab.workbook.run.run_notebook", lambda *args: ran.append(args))
    notebook(tmp_path, "00_a.ipynb", new_markdown_cell("# 00 A"), "1")
    with pytest.raises(PeftlabError, match="its folder may not be written to"):
        build_workbook(tmp_path, site)
    assert not ran


@pytest.mark.parametrize("content", ["", "{", "{}", "binary", "a reader's own"])
def test_a_build_never_writes_over_what_no_build_has_written(content, tmp_path, no_kernels):
    """The lessons themselves, or a reader's copy of them with all answers, in the folder that was named."""
    folder, mine = tmp_path / "notebooks", tmp_path / "mine"
    folder.mkdir()
    mine.mkdir()
    notebook(folder, "00_a.ipynb", new_markdown_cell("# 00 A"), "1")
    notebook(mine, "00_a.ipynb", new_markdown_cell("# 00 A"), "my answer")
    if content != "a reader's own":
        (mine / "00_a.ipynb").write_bytes(b"\xff\xfe" if content == "binary" else content.encode())
    for out in (mine, folder):
        before = contents(out)
        with pytest.raises(PeftlabError, match="00_a.ipynb: is there, but no build wrote it.*another folder"):
            build_workbook(folder, out)
        assert contents(out) == before
