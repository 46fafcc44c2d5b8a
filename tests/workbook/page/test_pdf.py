"""A page as a PDF: whole or not at all, and one sentence where it cannot be had."""

import re
import subprocess

import pytest
from lesson import LESSON, RECORD

from peftlab.cli import main
from peftlab.common.errors import PeftlabError
from peftlab.workbook.page.pdf import BROWSERS, find_browser, print_pdf
from peftlab.workbook.page.render import render_page


@pytest.fixture
def page(tmp_path):
    (tmp_path / "00_a.html").write_text(render_page(LESSON, RECORD), encoding="utf-8")
    return tmp_path / "00_a.html"


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A function that puts a shell script, given the file to write as $pdf, in Chromium's place."""

    def put(script):
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "chromium").write_text(
            f'#!/bin/sh\nfor word; do case $word in --print-to-pdf=*) pdf="${{word#*=}}";; esac; done\n{script}\n'
        )
        (folder / "chromium").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))

    return put


@pytest.mark.parametrize("command", [["report", "photographs"], ["workbook", "--only", "00"]])
def test_without_chromium_one_sentence_comes_before_any_work(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([*command, "--pdf", "--out", str(tmp_path / "out")]) == 2
    says = capsys.readouterr().err
    assert says.startswith("peftlab: --pdf needs Chromium") and says.count("\n") == 1
    assert all(name in says for name in BROWSERS) and not (tmp_path / "out").exists()


def test_what_chromium_wrote_is_beside_the_page(page, fake):
    fake('echo printed > "$pdf"')
    assert print_pdf(page) == page.with_suffix(".pdf")
    assert page.with_suffix(".pdf").read_text() == "printed\n"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ('echo half > "$pdf"; echo ignored >&2; echo no display >&2; exit 1', "cannot print it (no display)"),
        ("exit 3", "cannot print it (exit status 3)"),
        ("exit 0", "cannot print it (exit status 0)"),
    ],
)
def test_a_failure_is_one_sentence_and_leaves_the_old_file(script, says, page, fake):
    fake(script)
    page.with_suffix(".pdf").write_text("old")
    with pytest.raises(PeftlabError, match=re.escape(says)):
        print_pdf(page)
    assert page.with_suffix(".pdf").read_text() == "old" and not list(page.parent.glob("*.part-*"))


@pytest.mark.parametrize(
    ("stop", "seen"), [(KeyboardInterrupt, KeyboardInterrupt), (subprocess.TimeoutExpired("x", 1), PeftlabError)]
)
def test_an_interruption_leaves_nothing(stop, seen, page, monkeypatch, tmp_path):
    def half(command, **_):
        part = next(word.partition("=")[2] for word in command if word.startswith("--print-to-pdf="))
        with open(part, "w") as file:
            file.write("%PDF")
        raise stop

    monkeypatch.setattr("peftlab.workbook.page.pdf.find_browser", lambda: "chromium")
    monkeypatch.setattr(subprocess, "run", half)
    with pytest.raises(seen):
        print_pdf(page)
    assert list(tmp_path.iterdir()) == [page]


@pytest.fixture
def chromium():
    try:
        find_browser()
    except PeftlabError as error:
        pytest.skip(str(error))


def test_chromium_prints_all_figures_and_embeds_its_fonts(page, chromium):
    pdf = print_pdf(page).read_bytes()
    assert pdf.startswith(b"%PDF") and pdf.rstrip().endswith(b"%%EOF")
    assert len(re.findall(rb"/Subtype\s*/Image", pdf)) == 1 and b"/FontFile" in pdf
    assert re.search(rb"/MediaBox\s*\[0 0 59[45][.\d]* 84[12][.\d]*\]", pdf), "A4"
    assert sorted(path.name for path in page.parent.iterdir()) == ["00_a.html", "00_a.pdf"]


def test_a_pdf_leads_to_the_network_and_to_no_file_of_this_machine(page, chromium):
    links = '<p><a href="01_b.html">B</a>, <a href="https://x.example/a.html">X</a>, <a href="#then">2</a></p>'
    page.write_text(page.read_text("utf-8").replace("<p>Why.</p>", links), "utf-8")
    pdf = print_pdf(page).read_bytes()
    assert re.findall(rb"/URI \((.*?)\)", pdf) == [b"https://x.example/a.html"]
    assert 'href="01_b.html"' in page.read_text("utf-8"), "the page keeps its links"
