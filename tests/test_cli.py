"""The command line itself; what its commands do is tested with what they call."""

import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from peftlab.backbones.load import load_backbone
from peftlab.cli import main
from peftlab.common.errors import PeftlabError
from peftlab.methods import attach
from peftlab.results.ledger import read_ledger
from peftlab.workbook.lessons import LESSONS

GRID = "tasks: [digits]\nmethods:\n  linear: {}\n"
TABLE = "label,task,group,synthetic,seed,train_split,test_accuracy\nlora,dtd,natural,True,0,train800val200,0.5\n"
HUGE = "9" * 40
TRAINS_ON = "; the same command goes on from the last complete epoch"
HEAVY = ["torch", "timm", "numpy", "pandas", "matplotlib", "jupyterlab", "papermill"]


def test_help_needs_none_of_the_large_libraries():
    code = f"import sys, peftlab.cli; peftlab.cli.parser(); print([m for m in {HEAVY} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_running_and_copying_lessons_needs_no_torch():
    """Which kernels load for themselves: seconds before the first lesson starts."""
    code = "import sys; from peftlab.workbook import lessons, run; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_the_module_is_the_command():
    out = subprocess.run([sys.executable, "-m", "peftlab", "--version"], capture_output=True, text=True)
    assert out.returncode == 0 and out.stdout == version("peftlab") + "\n"


def test_init_copies_the_lessons_and_says_where(tmp_path, capsys):
    assert main(["init", str(tmp_path / "course")]) == 0
    assert (tmp_path / "course" / "00_tour.ipynb").exists()
    assert f"peftlab lab {tmp_path / 'course'}" in capsys.readouterr().out


def test_lab_opens_the_copied_lessons(tmp_path, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr("peftlab.workbook.lessons.draw_data", lambda: opened.append("drawn"))
    monkeypatch.setattr("peftlab.workbook.lessons.open_lab", opened.append)
    assert main(["lab", str(tmp_path)]) == 0
    assert opened == ["drawn", tmp_path] and (tmp_path / "start.md").exists()


def test_class_build_hands_on_what_it_is_given(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "peftlab.workbook.classroom.build_class", lambda *args, **options: asked.append((args, options))
    )
    line = ["class", "build", str(tmp_path), "--only", "00,03", "--reports", "site", "--repository", "me/peftlab"]
    assert main(line) == 0 and main(["class", "build", str(tmp_path)]) == 0
    given = {"only": "00,03", "reports": Path("site"), "repository": "me/peftlab"}
    assert asked == [
        ((tmp_path,), given),
        ((tmp_path,), {"only": None, "reports": Path("reports"), "repository": None}),
    ]


@pytest.mark.parametrize("command", [["lab"], ["init"], ["workbook"]])
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])
    assert stopped.value.code == 0 and capsys.readouterr().out.startswith(f"usage: peftlab {command[0]}")


@pytest.mark.parametrize("command", ["methods", "tasks", "backbones", "protocols", "ledger"])
def test_listing_commands(command, capsys):
    assert main([command]) == 0
    words = {"methods": "lora", "tasks": "dsprites_ori", "backbones": "peftlab_vit_mini", "ledger": "peftlab fit"}
    assert (words | {"protocols": "randaugment"})[command] in capsys.readouterr().out


def test_fit_command_writes_a_row_and_reports_mistakes(capsys, tiny_task, monkeypatch):
    monkeypatch.setattr("peftlab.tasks.load.load_task", lambda name, root: tiny_task)
    assert main(["fit", "lora", "tiny", "-o", "rank=2", "-o", "targets=q,k", "--epochs", "1"]) == 0
    row = read_ledger().iloc[0]
    assert '"rank": 2' in row["options"] and '["q", "k"]' in row["options"]
    assert "tiny (synthetic): test accuracy" in capsys.readouterr().out
    again = ["fit", "linear", "tiny", "--epochs", "1"]
    with monkeypatch.context() as patch:
        patch.setattr("peftlab.training.run._now", lambda: "2026-01-01T00:00:00+00:00")
        assert main(again) == 0
    assert main(again) == 0 and "from the ledger; --again trains it again" in capsys.readouterr().out
    assert main([*again, "--again"]) == 0 and "from the ledger" not in capsys.readouterr().out
    recipe = "--label-smoothing 0.1 --augmentation shift --cooldown-epochs 1 --gradient-checkpointing".split()
    assert main([*again, *recipe]) == 0 and "from the ledger" not in capsys.readouterr().out
    row = read_ledger().dropna(subset="augmentation").iloc[0]
    assert (row["label_smoothing"], row["augmentation"], row["cooldown_epochs"]) == (0.1, "shift", 1)
    assert row["gradient_checkpointing"] and read_ledger()["gradient_checkpointing"].count() == 1
    assert main([*again, "--label-smoothing", "1"]) == 2 and "label_smoothing is 1.0" in capsys.readouterr().err
    assert main(["fit", "lorra", "tiny"]) == 2
    assert "did you mean 'lora'" in capsys.readouterr().err
    assert main(["fit", "lora", "tiny", "-o", "rank"]) == 2
    assert main(["fit", "full", "tiny", "--lr", "1e9", "--epochs", "9"]) == 1
    assert "the loss became" in capsys.readouterr().err
    assert main(["fit", "linear", "tiny", "--epochs", "1", "--runs", "/dev/null/runs"]) == 1
    assert "may be written to" in capsys.readouterr().err
    assert main(["ledger"]) == 0 and main(["ledger", "--csv"]) == 0


def test_fit_command_hands_on_what_it_is_given(tiny_task, monkeypatch):
    asked = {}

    def fit(model, task, **how):
        asked.update(how, start=model.digest())
        raise PeftlabError("seen")

    monkeypatch.setattr("peftlab.tasks.load.load_task", lambda name, root: tiny_task)
    monkeypatch.setattr("peftlab.training.fit.fit", fit)
    wanted = {"seed": 3, "precision": "bf16", "first_lr": 0.1, "first_epochs": 3, "epochs": 2, "batch_size": 5}
    wanted |= {"lr": 0.2, "train_split": "train800", "device": "cpu"}
    given = [part for name, value in wanted.items() for part in (f"--{name.replace('_', '-')}", f"{value}")]
    assert main(["fit", "two_stage", "tiny", "--img-size", "32", *given]) == 2
    assert asked.items() >= wanted.items()
    assert asked["start"] == attach(load_backbone(img_size=32), "two_stage", 3, seed=3).digest()


def test_no_methods_are_not_the_default(monkeypatch):
    given = []
    monkeypatch.setattr("peftlab.workbook.report.build_report", lambda *args, methods, **_: given.append(methods))
    with pytest.raises(TypeError):  # it returns no page
        main(["report", ".", "--methods", ""])
    assert given == [[""]]


@pytest.mark.parametrize("size", [10, 10**6])
def test_whoever_reads_the_output_may_stop(size):
    """As `head` does. What is short is written when the command ends, what is long before."""
    code = (
        "from peftlab.cli import commands, main; "
        f"commands.tasks = lambda a: print('x' * {size}); exit(main(['tasks']))"
    )
    read, write = os.pipe()
    os.close(read)
    out = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (out.returncode, out.stderr) == (141, "")


def test_what_the_output_cannot_encode_is_printed_all_the_same():
    """A name in bytes that are no UTF-8, at the end of hours of training; an old terminal."""
    code = "from peftlab.cli import commands, main; commands.tasks = lambda args: print('l\\udce4ufe ä'); exit(main())"
    how = {"capture_output": True, "text": True, "env": os.environ | {"PYTHONIOENCODING": "ascii"}}
    done = subprocess.run([sys.executable, "-c", code, "tasks"], **how)
    assert (done.returncode, done.stdout, done.stderr) == (0, "l\\udce4ufe \\xe4\n", "")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_stopped_command_tidies_up(name):
    """As on Ctrl-C where a batch system or `timeout` stops it, which send SIGTERM twice, or its terminal is closed."""
    code = f"""if True:
        import os, signal, sys
        from peftlab import cli
        def tasks(args):
            try:
                signal.raise_signal(signal.{name})
            finally:
                if "{name}" != "SIGINT":
                    signal.raise_signal(signal.SIGTERM)
                print("tidied")
        cli.commands.tasks, sys.argv = tasks, ["peftlab", "tasks"]
        sys.exit(cli.main())"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 128 + getattr(signal, name)
    assert (done.stdout, done.stderr) == ("tidied\n", "\npeftlab: interrupted\n")


@pytest.mark.parametrize("named", [True, False])
def test_a_ledger_that_may_not_be_read_is_not_an_empty_one(named, tmp_path, monkeypatch, capsys):
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(tmp_path) and access(path, mode))
    monkeypatch.setenv("PEFTLAB_RUNS", str(tmp_path))
    assert main(["ledger", "--runs", str(tmp_path)] if named else ["ledger"]) == 2
    assert f"{tmp_path}: may not be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "stopped", "goes_on"),
    [
        ("data audit .", "peftlab.tasks.audit.audit", ""),
        ("costs lora", "peftlab.analysis.costs.cost_card", ""),
        ("data fetch", "peftlab.tasks.mirrors.fetch.fetch", "; the same command goes on where the download stopped"),
        ("fit lora tiny", "peftlab.tasks.load.load_task", TRAINS_ON),
        ("sweep grid.yaml", "peftlab.training.grid.read_grid", TRAINS_ON),
        ("workbook", "peftlab.workbook.run.build_workbook", TRAINS_ON),
        ("report .", "peftlab.workbook.report.build_report", TRAINS_ON),
    ],
)
def test_what_is_interrupted_goes_on_only_where_it_trains_or_fetches(
    line, stopped, goes_on, places, monkeypatch, capsys
):
    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(stopped, stop)
    assert main(line.split()) == 130
    assert capsys.readouterr().err == f"\npeftlab: interrupted{goes_on}\n"


@pytest.fixture
def places(tmp_path, tmp_path_factory, monkeypatch):
    """What bad command lines name: files and folders of every kind -> a folder that holds them, the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path_factory.mktemp("cache")))
    (tmp_path / "folder").mkdir()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    for name, content in {
        "file": b"",
        "binary.csv": b"\xff\xfe\x00",
        "empty.csv": b"",
        "semicolons.csv": TABLE.replace(",", ";").encode(),
        "tabs.csv": TABLE.replace(",", "\t").encode(),
        "uneven.csv": b"a,b\n1,2\n1,2,3\n",
        "other.csv": b"a,b\n1,2\n",
        "table.csv": TABLE.encode(),
        "header.csv": TABLE.splitlines()[0].encode(),
        "tuning.csv": TABLE.replace("train800val200", "train800").encode(),
        "words.csv": (TABLE + TABLE.splitlines()[1].replace("0.5", "abc")).encode(),
        "percent.csv": TABLE.replace("0.5", "50").encode(),
        "gap.csv": TABLE.replace("0.5", "").encode(),
        "long.csv": TABLE.replace("0.5\n", "0.5,9\n").encode(),
        "cut.csv": (TABLE + TABLE.splitlines()[1])[:-7].encode(),
        "columns.csv": TABLE.replace("seed", "label").encode(),
        "nameless.csv": (TABLE + TABLE.splitlines()[1].replace("dtd", "")).encode(),
        "maybe.csv": TABLE.replace("True", "perhaps").encode(),
        "many_costs.csv": b"method,parameters,gflops_training,peak_mib,step_ms\nlora,many,1,1,1\n",
        "two_costs.csv": b"method,parameters,gflops_training,peak_mib,step_ms\nlora,1,1,1,1\nlora,1,1,1,1\n",
        "twice.csv": (TABLE + TABLE.splitlines()[1]).encode(),
        "costs.csv": b"method,parameters,gflops_training,peak_mib,step_ms\nvpt,1,1,1,1\n",
        "counted.csv": TABLE.replace("accuracy\n", "accuracy,parameters\n").replace("0.5\n", "0.5,7\n").encode(),
        "other_costs.csv": b"method,parameters,gflops_training,peak_mib,step_ms\nlora,5,1,1,1\n",
        "grid.yaml": GRID.encode(),
        "binary.yaml": b"\xff\xfe\x00",
        "list.yaml": b"[1, 2]",
        "tasks.yaml": b"tasks: [digits]",
        "bad.safetensors": b"no tensors",
        "bad.npz": b"no arrays",
    }.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.fixture
def no_hanging(monkeypatch):
    """Stops what waits for ever, in a FIFO for example."""
    monkeypatch.setattr("peftlab.training.sweep.PATIENCE", 1)

    def stop(number, frame):
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


FIT = "fit lora tiny"
BAD = {  # a command line (~ stands for an empty argument): what its sentence must say
    "": "required: command",
    "train": "invalid choice: 'train'",
    "tasks dtd": "unrecognized arguments: dtd",
    "backbones --all": "unrecognized arguments: --all",
    "data": "required: what",
    "methods lorra": "did you mean 'lora'",
    "methods ~": "unknown method ''",
    "fit": "required: METHOD, TASK",
    "fit lorra tiny": "did you mean 'lora'",
    "fit lora tinny": "unknown task 'tinny'",
    "fit lora ~": "unknown task ''",
    "fit lora dtd --root missing": "missing/dtd: no such folder",
    "fit lora dtd --root file": "file/dtd: no such folder",
    "fit lora dtd --root ~": "names no",
    f"{FIT} -o rank=abc": "rank is 'abc'",
    f"{FIT} -o rank=1e400": "rank is inf",
    f"{FIT} -o rank=nan": "rank is nan",
    f"{FIT} -o rank=2.5": "rank is 2.5",
    f"{FIT} -o rank=true": "rank is True",
    f"{FIT} -o rank=": "rank is ''",
    f"{FIT} -o rank=0": "rank is 0",
    f"{FIT} -o rank=-4": "rank is -4",
    f"{FIT} -o rank={HUGE}": f"rank is {HUGE}",
    f"{FIT} -o rank={'9' * 5000}": "rank is ",
    f"{FIT} -o rank": "'rank' is not of the form name=value",
    f"{FIT} -o =3": "'=3' is not of the form name=value",
    f"{FIT} -o ~": "'' is not of the form name=value",
    f"{FIT} -o rank=4 -o rank=8": "'rank' is given twice",
    f"{FIT} -o rnk=4": "did you mean 'rank'",
    f"{FIT} -o alpha=inf": "alpha is inf",
    f"{FIT} -o targets=x": "unknown target 'x'",
    f"{FIT} -o targets=q,q": "each once",
    f"{FIT} -o last_blocks=99": "last_blocks is 99",
    f"{FIT} --backbone ~": "unknown backbone ''",
    f"{FIT} --backbone lorra": "unknown backbone 'lorra'",
    f"{FIT} --backbone folder": "unknown backbone 'folder'",
    f"{FIT} --backbone missing.safetensors": "missing.safetensors: no such weights file",
    f"{FIT} --backbone bad.safetensors": "bad.safetensors: cannot be read as safetensors",
    f"{FIT} --backbone bad.npz": "bad.npz: ",
    f"{FIT} --backbone vit_base_patch16_224": "which weights",
    f"{FIT} --img-size 0": "img_size is 0",
    f"{FIT} --img-size -8": "img_size is -8",
    f"{FIT} --img-size 39": "img_size is 39",
    f"{FIT} --img-size 1000000000": "img_size is 1000000000",
    f"{FIT} --img-size big": "--img-size: invalid int value: 'big'",
    f"{FIT} --protocol noa": "did you mean 'noah'",
    f"{FIT} --epochs 0": "epochs is 0",
    f"{FIT} --epochs -3": "epochs is -3",
    f"{FIT} --epochs 1.5": "--epochs: invalid int value: '1.5'",
    f"{FIT} --batch-size 0": "batch_size is 0",
    f"{FIT} --batch-size {HUGE}": f"batch_size is {HUGE}",
    f"{FIT} --lr nan": "lr is nan",
    f"{FIT} --lr inf": "lr is inf",
    f"{FIT} --lr 1e400": "lr is inf",
    f"{FIT} --lr 0": "lr is 0",
    f"{FIT} --lr -1": "lr is -1",
    f"{FIT} --lr fast": "--lr: invalid float value: 'fast'",
    f"{FIT} --train-split test": "--train-split: invalid choice: 'test'",
    f"{FIT} --seed -1": "seed is -1",
    f"{FIT} --seed 1e3": "--seed: invalid int value: '1e3'",
    f"{FIT} --seed {HUGE}": f"seed is {HUGE}",
    f"{FIT} --device foo": "no device 'foo'",
    f"{FIT} --device cuda:99": "no device 'cuda:99'",
    f"{FIT} --device ~": "no device ''",
    f"{FIT} --device meta": "no device 'meta'",
    f"{FIT} --runs file": "file: is not a folder",
    f"{FIT} --runs fifo": "fifo: is not a folder",
    f"{FIT} --runs file/runs": "Not a directory: 'file/runs'",
    f"{FIT} --runs ~": "names no",
    f"{FIT} --runs a\0b": "NUL",
    "sweep": "required: GRID.yaml",
    "sweep missing.yaml": "missing.yaml: no such file",
    "sweep folder": "folder: is not a file",
    "sweep fifo": "fifo: is not a file",
    "sweep file": "file: ",
    "sweep binary.yaml": "binary.yaml: ",
    "sweep list.yaml": "list.yaml: ",
    "sweep tasks.yaml": "tasks.yaml: ",
    "sweep grid.yaml --jobs 0": "jobs) is 0",
    "sweep grid.yaml --jobs -2": "jobs) is -2",
    "sweep grid.yaml --jobs two": "--jobs: invalid int value: 'two'",
    "sweep grid.yaml --backend dask": "--scheduler",
    "sweep grid.yaml --backend ray": "--backend: invalid choice: 'ray'",
    "sweep grid.yaml --scheduler tcp://127.0.0.1:9": "--backend dask",
    "sweep grid.yaml --backend dask --scheduler foo": "foo: ",
    "sweep grid.yaml --backend dask --scheduler smoke://signal:1": "smoke://signal:1: ",
    "sweep grid.yaml --backend dask --scheduler ~": "--scheduler",
    "sweep grid.yaml --csv missing/table.csv": "no folder missing",
    "sweep grid.yaml --csv folder": "folder: is a folder or a device",
    "sweep grid.yaml --csv fifo": "fifo: is a folder or a device",
    "sweep grid.yaml --csv ~": "names no",
    "sweep grid.yaml --csv other.csv": "other.csv: has no column run, so it is not the table of a sweep",
    "sweep grid.yaml --csv binary.csv": "binary.csv: cannot be read as a table",
    "sweep grid.yaml --csv folder --dry-run": "folder: is a folder or a device",
    "sweep grid.yaml --csv table.csv --dry-run": "table.csv: has no column run",
    "sweep grid.yaml --jobs 0 --dry-run": "jobs) is 0",
    "sweep grid.yaml --runs file": "file: is not a folder",
    "sweep grid.yaml --backbone peftlab_vit_mni": "did you mean 'peftlab_vit_mini'",
    "sweep grid.yaml --img-size 7": "img_size is 7",
    "sweep grid.yaml --img-size 0": "img_size is 0",
    "sweep grid.yaml --backbone ~": "backbone",
    "compare": "required: TABLE.csv",
    "compare missing.csv": "missing.csv: no such file",
    "compare folder": "folder: is not a file",
    "compare fifo": "fifo: is not a file",
    "compare binary.csv": "binary.csv: cannot be read as a table",
    "compare semicolons.csv": "semicolons.csv: cannot be read as a table: its cells are parted by ';'. Save it as CSV",
    "compare tabs.csv": "tabs.csv: cannot be read as a table: its cells are parted by '\\t'. Save it as CSV",
    "compare empty.csv": "empty.csv: cannot be read as a table: No columns to parse from file. Save it as CSV UTF-8",
    "compare uneven.csv": "uneven.csv: cannot be read as a table",
    "compare long.csv": "long.csv: cannot be read as a table: 8 cells in 7 columns, line 2",
    "compare cut.csv": "cut.csv: cannot be read as a table: 6 cells in 7 columns, line 3",
    "compare columns.csv": "columns.csv: cannot be read as a table: a column stands twice",
    "compare nameless.csv": "nameless.csv: task holds nan, which is no name. Correct its row",
    "compare maybe.csv": "maybe.csv: synthetic holds perhaps, which is neither True nor False. Correct its row",
    "compare table.csv --costs many_costs.csv": "many_costs.csv: parameters holds many, which is no number",
    "compare table.csv --costs two_costs.csv": "two_costs.csv: lora has 2 rows",
    "compare other.csv": "other.csv: has no column label, task, ",
    "compare header.csv": "header.csv: no final runs (train_split train800val200) in it yet; give the sweep again",
    "compare tuning.csv": "tuning.csv: no final runs (train_split train800val200) in it yet; give the sweep again",
    "compare words.csv": "words.csv: test_accuracy holds abc, which is no number from 0 to 1",
    "compare percent.csv": "percent.csv: test_accuracy holds 50, which is no number from 0 to 1",
    "compare gap.csv": "gap.csv: test_accuracy holds nan, which is no number from 0 to 1",
    "compare twice.csv": "twice.csv: 1 of its rows are there already (lora on dtd, seed 0)",
    "compare table.csv --costs other.csv": "other.csv: has no column method, ",
    "compare table.csv --costs costs.csv": "costs.csv: has no row lora",
    "compare counted.csv --costs other_costs.csv": "other_costs.csv: lora has 5 parameters, but 7 in counted.csv",
    "compare table.csv --costs fifo": "fifo: is not a file",
    "costs lorra": "did you mean 'lora'",
    "costs linear --backbone ~": "unknown backbone ''",
    "costs linear --backbone folder": "unknown backbone 'folder'",
    "costs linear --img-size 0": "img_size is 0",
    "costs linear --img-size 39": "img_size is 39",
    "costs linear --classes 0": "num_classes is 0",
    "costs linear --classes -7": "num_classes is -7",
    "costs linear --classes 1000000000000": "num_classes is 1000000000000",
    "costs linear --batch-size 0": "batch_size is 0",
    "costs linear --batch-size 1000000000000": "batch_size is 1000000000000",
    "costs linear --device foo": "no device 'foo'",
    "costs --grid folder": "folder: is not a file",
    "costs --grid fifo": "fifo: is not a file",
    "costs linear --grid grid.yaml": "methods or a grid",
    "ledger --runs missing": "missing: no such folder",
    "ledger --runs file": "file: is not a folder",
    "ledger --runs ~": "names no",
    "data fetch vtab": "did you mean 'vtab-1k'",
    "data fetch ~": "unknown data set ''",
    "data fetch --url file:///etc/passwd": "only http and https",
    "data fetch --url ftp://127.0.0.1/a.zip": "only http and https",
    "data fetch --url javascript:alert(1)": "only http and https",
    "data fetch --url ~": "only http and https",
    "data fetch --url http://": "only http and https",
    "data fetch --url http://[::1/a.zip": "only http and https",
    "data fetch --url http://127.0.0.1:99999999/a.zip": "only http and https",
    "data fetch --url http://127.0.0.1:nine/a.zip": "only http and https",
    f"data fetch --url http://{'a' * 300}/a.zip": "only http and https",
    "data fetch --url http://127.0.0.1:9/ä.zip": "only http and https",
    "data fetch --url http://127.0.0.1:9/a\tb.zip": "only http and https",
    "data fetch --url http://127.0.0.1:9/a.zip --sha256 zz": "sha256 'zz' is not 64 hex digits",
    "data fetch --url http://127.0.0.1:9/a.zip --sha256 ~": "sha256 '' is not 64 hex digits",
    "data fetch --url http://127.0.0.1:9/a.zip --to file": "file: is not a folder",
    "data fetch --url http://127.0.0.1:9/a.zip --to thesis": "thesis: exists and holds no VTAB-1k task",
    "data fetch --url http://127.0.0.1:9/a.zip --to ~": "names no",
    "data audit file": "file: no column",
    "data audit fifo": "fifo: a pipe",
    "data audit missing": "missing: no such folder or CSV file",
    "data audit folder": "folder: no task",
    "data audit ~": "names no",
    "data audit": "PEFTLAB_DATA",
    "workbook --only 99": "no notebook starts with '99'",
    "workbook --jobs 0": "(--jobs) is 0, but must be at least 1",
    "workbook --only ~": "names no notebook",
    "workbook --profile quick": "--profile: invalid choice: 'quick'",
    "workbook --out file": "file: is not a folder",
    "workbook --out fifo": "fifo: is not a folder",
    "workbook --out loop": "loop: is not a folder",
    "workbook --out ~": "names no",
    "report folder --out loop": "loop: is not a folder",
    "class": "required: what",
    "class build": "required: OUT",
    "class build file": "file: is not a folder",
    "class build folder --only 99": "no notebook starts with '99'",
    "class build new --repository me": "repository 'me' is not OWNER/NAME",
    "class build new --reports file": "file: is not a folder",
    "class build thesis": "thesis: holds files that no build wrote",
    "class build loop": "loop: is not a folder",
    "class build ~": "names no",
    "init": "required: DIR",
    "init file": "file: is not a folder",
    "init loop": "loop: is not a folder",
    "init ~": "names no",
    "lab file": "file: is not a folder",
    f"workbook --out {LESSONS}": "another folder",
    f"init {LESSONS}": "name another folder",
    "lab ~": "names no",
}


def there(folder):
    """All files and folders, but for the kept content hashes of images."""
    return sorted(p for p in folder.rglob("*") if "cache" not in p.relative_to(folder).parts)


@pytest.mark.parametrize("line", BAD, ids=lambda line: line[:60].replace("\0", "NUL") or "nothing")
def test_a_bad_command_line_is_answered_in_one_sentence(line, places, request, monkeypatch, capsys, no_hanging):
    """That names the value or file; nothing is trained, written or waited for, and nothing is taken silently."""
    monkeypatch.setattr("peftlab.tasks.synthetic.drawing.SIZES", dict.fromkeys(("train800", "val200", "test"), 1))
    if " tiny" in line:
        tiny_task = request.getfixturevalue("tiny_task")
        monkeypatch.setattr("peftlab.tasks.load.load_task", lambda name, root: tiny_task)
    before = there(places)
    assert main([word.replace("~", "") for word in line.split(" ")] if line else []) in (1, 2)
    out, err = capsys.readouterr()
    err = err.rpartition("\r")[2]  # a bar of progress that was wiped out
    assert BAD[line] in err and out == ""
    assert err.startswith("peftlab: ") and err.count("\n") == 1 and err.endswith("\n") and len(err) < 1500
    assert "Traceback" not in err and there(places) == before
