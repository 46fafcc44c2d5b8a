"""Where a page comes from."""

import re
import subprocess

from lesson import LESSON, RECORD, visible

from peftlab.workbook.page import provenance
from peftlab.workbook.page.provenance import describe_commit, read_commit
from peftlab.workbook.page.render import render_page


def git(folder, *words):
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", folder, *identity, *words], check=True, capture_output=True)


def test_the_commit_and_whether_files_differ_from_it(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "REPOSITORY", tmp_path)
    assert describe_commit() == "", "no clone"
    git(tmp_path, "init", "--quiet")
    (tmp_path / "a.py").write_text("1")
    assert describe_commit() == "", "no commit yet"
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "--quiet", "-m", "A")
    git(tmp_path, "tag", "v1")
    assert re.fullmatch("[0-9a-f]{12}", describe_commit())
    (tmp_path / "a.py").write_text("2")
    assert re.fullmatch("[0-9a-f]{12}-dirty", describe_commit())
    monkeypatch.setenv("PATH", "")
    assert describe_commit() == "", "no git on this machine"


def test_a_folder_within_somebody_elses_clone_has_no_commit(tmp_path, monkeypatch):
    git(tmp_path, "init", "--quiet")
    (tmp_path / "a.py").write_text("1")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "--quiet", "-m", "A")
    (tmp_path / "installed").mkdir()
    monkeypatch.setattr(provenance, "REPOSITORY", tmp_path / "installed")
    assert describe_commit() == ""


def test_a_page_says_where_it_comes_from():
    html = render_page(LESSON, RECORD)
    text = visible(html)
    assert "commit 0123456789ab, with uncommitted changes" in text and "torch 2" in text
    rows = re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td><td><code>(.*?)</code></td></tr>", html)
    assert rows == [("task", "dtd", "2279d92aac21"), ("backbone", "&lt;mini&gt;", "f3a2d41c5e66")]
    assert "Data and models" not in render_page(LESSON, RECORD | {"used": []})
    assert "<code>task</code></th><td><code>&#39;&lt;dtd&gt;&#39;</code>" in html
    assert "<code>seed</code></th><td><code>3</code>" in html
    assert read_commit("") in render_page(LESSON, RECORD | {"commit": ""})
