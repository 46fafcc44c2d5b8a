"""Run the workbook and publish it: papermill executes each notebook, `page/` makes its HTML page.

The folder `out` holds, for each notebook, NN_name.ipynb (as executed) and NN_name.html, and an index.html over all.
The executed notebook is the record: pages and index are made from it alone, so a build of one notebook (`only="04"`)
keeps what an earlier build left for the others.
"""

import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import joblib
import nbformat
import papermill
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from traitlets import Unicode

from ..common.errors import PeftlabError, check_at_least, check_choice, near
from ..common.files import require_writable, sweep_parts, write_text
from ..common.paths import INSTALLED, REPOSITORY, named_folders, runs_folder
from ..common.used import VARIABLE, read_used
from .lint.code import parameter_problems
from .page.cells import title
from .page.index import card, render_index
from .page.pdf import find_browser, print_pdf
from .page.provenance import describe_commit, describe_environment
from .page.references import external_references
from .page.render import duration, own_pages, render_page

PROFILES = ("fast", "full")


@dataclass(frozen=True)
class PageResult:
    """How the run of one notebook went. `error` is empty unless `status` is "failed".

    commit: of the code, empty where it is no clone. used: (kind, name, fingerprint) of all tasks and backbones that
    were loaded, whether a run was on them or not.
    """

    name: str
    title: str
    status: str
    seconds: float
    profile: str
    date: str
    environment: str
    error: str = ""
    commit: str = ""
    used: Sequence[tuple[str, str, str]] = ()

    @property
    def ok(self) -> bool:
        return self.status == "ok"


class _ThisPython(AsyncKernelManager):
    """A kernel of the Python that runs us, whatever kernelspecs this machine and user have registered."""

    variables: Mapping[str, str] = {}  # of its environment, as they are before papermill changes the folder

    @property
    def kernel_spec(self) -> KernelSpec:
        ours = [] if INSTALLED else [str(REPOSITORY)]  # a clone need not be installed
        path = os.pathsep.join(filter(None, [*ours, os.environ.get("PYTHONPATH")]))
        return KernelSpec(
            # only the kernel's own log is silenced (it warns about TCP on each start); cells' output is not part of it
            argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=50"],
            display_name="Python 3 (ipykernel)",
            language="python",
            # inline pictures even where the caller has set MPLBACKEND=Agg for itself, as CI does
            env={
                "PEFTLAB_HEADLESS": "1",
                "PYTHONPATH": path,
                "MPLBACKEND": "module://matplotlib_inline.backend_inline",
                **self.variables,
            },
        )


def build_workbook(
    notebooks_folder: str | Path,
    out: str | Path,
    profile: str = "fast",
    only: str | None = None,
    jobs: int = 1,
    reader: bool = False,
    pdf: bool = False,
) -> list[PageResult]:
    """Execute the notebooks in the order of their numbers and write the site. Returns a PageResult for each one run.

    Notebooks run in their own folder, as in JupyterLab. One that fails gets a page with its traceback, and the others
    go on: ask `all(r.ok for r in results)`. `only` picks notebooks by the start of their names, "04" or "04,07".
    jobs: how many notebooks run at a time, sharing the cores among them. reader: pages leave exercises out. pdf:
    Chromium prints a PDF beside each page that was run.
    On Ctrl-C the running notebooks are dropped, what is finished is published, and KeyboardInterrupt goes on to the
    caller. Raises PeftlabError, before anything runs, for choices that mean nothing, for a parameters cell that is
    none, without Chromium for a PDF, and where `out` holds notebooks that no build wrote or may not be written to.
    """
    check_at_least("the number of notebooks at a time (--jobs)", jobs, 1)
    if pdf:
        find_browser()
    out = Path(out).resolve()  # papermill changes the working directory while it runs
    notebooks = find_notebooks(notebooks_folder)
    selected = select(notebooks, only)
    check_choice("profile", profile, PROFILES)
    for path in selected:
        check_parameters(path)
    for path in notebooks:
        _executed(out / path.name)
    out.mkdir(parents=True, exist_ok=True)
    require_writable(out / "index.html")  # at once, not after the first notebook
    sweep_parts(out)
    environment = describe_environment()
    results: list[PageResult] = []
    start = time.perf_counter()
    # processes, for papermill changes the working directory; joblib gives each its share of the cores
    parallel = joblib.Parallel(n_jobs=min(jobs, len(selected)), return_as="generator_unordered")
    scratch = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # ours, for those processes are killed on Ctrl-C
    work = (
        joblib.delayed(_run)(f"[{i}/{len(selected)}] {p.stem}", p, {"profile": profile}, environment, scratch.name)
        for i, p in enumerate(selected, 1)
    )
    try:
        for nb, result in parallel(work):
            write_text(out / f"{result.name}.ipynb", nbformat.writes(nb) + "\n")
            (out / f"{result.name}.pdf").unlink(missing_ok=True)  # of an earlier build
            results.append(result)
    except KeyboardInterrupt:
        say("stopped; the notebooks finished so far are published")
        raise
    finally:
        scratch.cleanup()
        publish(notebooks, out, environment, profile, reader)
        failed = sum(not r.ok for r in results)
        say(f"{len(results)} run, {failed} failed, {duration(time.perf_counter() - start)}: {out / 'index.html'}")
    for result in results if pdf else ():
        say(f"printed: {print_pdf(out / f'{result.name}.html')}")
    return sorted(results, key=lambda r: r.name)


def _run(
    name: str, path: Path, values: Mapping[str, Any], environment: str, scratch: str
) -> tuple[NotebookNode, PageResult]:
    """`run_notebook` with its two lines of progress."""
    say(f"{name}: running")
    nb, result = run_notebook(path, values, environment, scratch)
    say(f"{name}: {'ok' if result.ok else f'FAILED ({result.error})'}, {duration(result.seconds)}")
    return nb, result


def find_notebooks(folder: str | Path) -> list[Path]:
    """The workbook's notebooks, NN_name.ipynb, in order. Others there are a reader's own and are left alone."""
    folder = Path(folder).resolve()
    found = sorted(p for p in folder.glob("*.ipynb") if re.match(r"\d\d_", p.name))
    if not found:
        raise PeftlabError(f"{folder}: no notebook named NN_name.ipynb there")
    return found


def select(notebooks: list[Path], only: str | None) -> list[Path]:
    """Those whose names begin with a word of `only`, "04" or "04,07", or all. Raises PeftlabError for other words."""
    if only is None:
        return notebooks
    wanted = [w.strip().removesuffix(".ipynb") for w in only.split(",") if w.strip()]
    names = [p.stem for p in notebooks]
    if not wanted:
        raise PeftlabError(f"only={only!r} names no notebook; leave it out for all, or choose from {', '.join(names)}")
    for word in wanted:
        if not any(name.startswith(word) for name in names):
            raise PeftlabError(f"no notebook starts with {word!r}{near(word, names)}")
    return [p for p in notebooks if any(p.stem.startswith(word) for word in wanted)]


def check_parameters(path: Path) -> None:
    """Refuse, before anything runs, a notebook without the workbook's parameters."""
    found, _ = parameter_problems(nbformat.read(path, as_version=4))
    if found:
        raise PeftlabError(f"{path.name}: {'; '.join(found)}")


def run_notebook(
    path: Path, values: Mapping[str, Any], environment: str = "", scratch: str | None = None
) -> tuple[NotebookNode, PageResult]:
    """Execute one notebook -> (the executed notebook, its PageResult). An error in it is a result, not raised.

    scratch: the folder of temporary files, by default the system's.
    """
    date, start, error = datetime.now().astimezone(), time.perf_counter(), ""
    commit = describe_commit()  # as it is now: a long run outlasts changes
    with tempfile.TemporaryDirectory(dir=scratch) as own:
        executed, noted = Path(own) / path.name, Path(own) / "used.jsonl"
        # the ledger in any case: by default it may be in the current folder, and the notebooks' may be read-only
        variables = {VARIABLE: str(noted), **named_folders(), "PEFTLAB_RUNS": str(runs_folder())}
        connection = Unicode(str(Path(own) / "kernel.json"))  # by default a file that stays where we are stopped
        kernel = type("Kernel", (_ThisPython,), {"variables": variables, "connection_file": connection})
        try:
            papermill.execute_notebook(
                path,
                executed,
                parameters={**parameter_problems(nbformat.read(path, as_version=4))[1], **values},
                kernel_name="python3",
                language="python",
                kernel_manager_class=kernel,
                cwd=path.parent,
                progress_bar=False,
                start_timeout=120,
            )
        except papermill.PapermillExecutionError as e:
            error = f"{e.ename}: {e.evalue}"
        except KeyboardInterrupt:
            logging.getLogger("asyncio").disabled = True  # it would say, with a traceback, that the cell's kernel died
            raise
        except DeadKernelError:
            error = "DeadKernelError: the Python process of this notebook died; most often memory ran out"
        except Exception as e:  # a kernel that does not start, say: the workbook goes on all the same
            error = f"{type(e).__name__}: {e}"
        nb = nbformat.read(executed if executed.exists() else path, as_version=4)
        used = read_used(noted)
    result = PageResult(
        name=path.stem,
        title=title(nb, path.stem),
        status="failed" if error else "ok",
        seconds=round(time.perf_counter() - start, 2),
        profile=values["profile"],
        date=f"{date:%Y-%m-%d %H:%M %Z}",
        environment=environment,
        error=error,
        commit=commit,
        used=used,
    )
    nb.metadata["peftlab"] = asdict(result)
    return nb, result


def publish(
    notebooks: Sequence[Path], out: Path, environment: str, profile: str = "fast", reader: bool = False
) -> None:
    """Write the page of each notebook that `out` holds an executed copy of, and the index over all notebooks.

    reader: pages leave exercises out.
    """
    done = {p.stem: nb for p in notebooks if (nb := _executed(out / p.name))}
    links = [(name, nb.metadata["peftlab"]["title"]) for name, nb in done.items()]
    for previous, (name, _), following in zip([None, *links], links, [*links[1:], None], strict=False):
        nb = done[name]
        html = render_page(nb, nb.metadata["peftlab"], previous, following, done, notebooks[0].parent, reader)
        for reference in external_references(html):
            say(f"note: {name}.html is not self-contained, it loads {reference}")
        write_text(out / f"{name}.html", html)
        for page, own in own_pages(name, nb).items():
            write_text(out / f"{page}.html", own)
    cards = [
        card(p.stem, done[p.stem], done[p.stem].metadata["peftlab"])
        if p.stem in done
        else card(p.stem, nbformat.read(p, as_version=4))
        for p in notebooks
    ]
    command = f"peftlab workbook --profile {profile} --out {out.name}/{' --reader' if reader else ''}"
    api = (out / "api" / "index.html").exists()
    write_text(out / "index.html", render_index(cards, environment, command, api))


def _executed(file: Path) -> NotebookNode | None:
    """A notebook as an earlier build left it, None where there is none.

    Raises PeftlabError for any other of that name, a lesson or a reader's copy, which a build would write over.
    """
    try:
        if file.exists():
            nb = nbformat.read(file, as_version=4)
            return nb if nb.metadata["peftlab"]["title"] else None
    except (ValueError, KeyError, TypeError, AttributeError, nbformat.ValidationError):  # text, JSON, another
        raise PeftlabError(f"{file}: is there, but no build wrote it. Move it away, or name another folder") from None
    return None


def say(line: str) -> None:
    """A line of progress, at once also where standard output is a pipe."""
    print(line, flush=True)
