"""What the tests share. Real data is read through PEFTLAB_DATA; where it is absent, a test skips and says so."""

import copy
import gc
import importlib
import itertools
import os
import shutil
import signal
from collections import OrderedDict

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as peftlab does, but before torch is imported
os.environ.setdefault("PEFTLAB_HEADLESS", "1")
os.environ.setdefault("MPLBACKEND", "agg")
# Under another name, which xdist's workers get, too: no test reads real data unless it asks for it.
if "PEFTLAB_DATA" in os.environ:
    os.environ["PEFTLAB_REAL_DATA"] = os.environ.pop("PEFTLAB_DATA")

import pytest  # noqa: E402

# A shell that starts the tests in the background makes them ignore Ctrl-C, which some of them send themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config):
    """Where tests are run, and not where xdist hands them out: peftlab is imported with its annotations checked."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return
    # What peftlab imports comes first: within the hook, Python does not find the bytecode of other packages.
    for name in ("ipywidgets", "matplotlib.pyplot", "scipy.ndimage", "scipy.stats", "sklearn.linear_model", "torch"):
        importlib.import_module(name)
    import torch
    from jaxtyping import install_import_hook
    from typecheck import unchecked

    install_import_hook("peftlab", "typecheck.check")  # before anything imports peftlab
    if not torch.cuda.is_available():  # each seed would note the whole stack, for a device that is not there
        torch.cuda.manual_seed_all = torch.xpu.manual_seed_all = torch.mtia.manual_seed_all = lambda seed: None
    from peftlab.tasks import captions
    from peftlab.tasks.synthetic import drawing

    drawing._write, captions.draw_scenes = map(unchecked(), (drawing._write, captions.draw_scenes))


@pytest.fixture(scope="session")
def real_root():
    """The real VTAB-shaped subsets."""
    from support import REAL

    if not REAL.is_dir():
        pytest.skip(f"no real data at {REAL}; set PEFTLAB_DATA to a folder in the VTAB-1k layout")
    return REAL


# Tests copy models thousands of times, and every module has a dozen empty OrderedDicts and sets, for each of which
# deepcopy looks up how to copy what it does not know.
copy._deepcopy_dispatch |= {
    kind: lambda old, memo, kind=kind, items=items: kind(copy.deepcopy(items(old), memo)) if old else kind()
    for kind, items in ((OrderedDict, lambda old: list(old.items())), (set, list))
}


def pytest_collection_finish():
    """What has been imported stays, so the garbage collector need not look at it again and again."""
    gc.freeze()


ledgers = itertools.count()


@pytest.fixture(autouse=True)
def own_ledger(tmp_path_factory, monkeypatch):
    """No test writes into the user's ledger. Most write into none, so its folder is not made."""
    monkeypatch.setenv("PEFTLAB_RUNS", str(tmp_path_factory.getbasetemp() / "ledgers" / f"{next(ledgers)}"))


@pytest.fixture(autouse=True)
def own_fingerprints(tmp_path_factory, monkeypatch):
    """No test writes into the user's cache of content hashes; one for all tests, so that images are read once."""
    monkeypatch.setattr("peftlab.tasks.files.cache_folder", lambda: tmp_path_factory.getbasetemp() / "cache")


@pytest.fixture(autouse=True)
def nothing_synced(monkeypatch):
    """No test waits until the disk has what it wrote: no power is cut here."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.fixture(autouse=True)
def fixed_seed():
    import torch

    torch.manual_seed(0)


@pytest.fixture
def tiny_task(tmp_path):
    """36 training and 16 test images of 3 classes that differ in colour, written to disk in the VTAB-1k layout."""
    import numpy as np
    from PIL import Image

    from peftlab.tasks.task import Task

    rng, folder = np.random.default_rng(0), tmp_path / "tiny"
    for split, n in (("train800", 24), ("val200", 12), ("test", 16)):
        (folder / "images" / split).mkdir(parents=True)
        lines = []
        for i in range(n):
            pixels = rng.integers(0, 80, (32, 32, 3), dtype=np.uint8)
            pixels[..., i % 3] += 120
            Image.fromarray(pixels).save(folder / "images" / split / f"{i:06d}.png")
            lines.append(f"images/{split}/{i:06d}.png {i % 3}\n")
        (folder / f"{split}.txt").write_text("".join(lines))
    both = (folder / "train800.txt").read_text() + (folder / "val200.txt").read_text()
    (folder / "train800val200.txt").write_text(both)
    return Task("tiny", "natural", "the brightest colour", ("red", "green", "blue"), folder, synthetic=True)


@pytest.fixture(scope="session")
def browser():
    """Chromium, as readers of pages have it."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright; pip install -e '.[dev]'")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium here; install one to see the pages as a reader does")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path)
        yield chromium
        chromium.close()
