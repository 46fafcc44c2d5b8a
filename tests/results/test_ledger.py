"""The ledger: what lies in a folder of runs, whatever else lies there."""

import pytest

from peftlab.cli import main
from peftlab.common.errors import DataError
from peftlab.results.ledger import read_ledger, write_record


@pytest.mark.parametrize("content", [b"[1, 2]", b"3", b"null", b"{", b"\xff\xfe\x00", b""])
def test_a_damaged_record_costs_one_row_and_is_named(content, tmp_path):
    (tmp_path / "good").mkdir()
    write_record(tmp_path / "good", {"task": "dtd", "method": "lora", "seed": 0})
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_bytes(content)
    with pytest.warns(UserWarning, match="bad.run.json: skipped"):
        table = read_ledger(tmp_path)
    assert list(table["run"]) == ["good"]


def test_no_folder_is_not_an_empty_ledger(tmp_path, capsys):
    with pytest.raises(DataError, match="nowhere: no such folder"):
        read_ledger(tmp_path / "nowhere")
    assert main(["ledger", "--runs", str(tmp_path / "nowhere")]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err
    assert read_ledger().empty  # the usual one is made by the first run
