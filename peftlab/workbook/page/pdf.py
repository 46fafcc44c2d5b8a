"""A page on paper: Chromium, which shows it on a screen, prints it to a PDF."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from ...common.errors import PeftlabError
from ...common.files import replacing

BROWSERS = ("chromium", "google-chrome", "chromium-browser", "chrome")
LONGEST = 300  # seconds to print a page; the largest lesson takes ten
_BESIDE = re.compile(r'(<a\b[^>]*?) href="(?![\w+.-]+:|#)[^"]*"')  # a link to a file, which a PDF has by its full path


def find_browser() -> str:
    """The path of Chromium or Chrome. Raises PeftlabError where none is on PATH."""
    if found := next(filter(None, map(shutil.which, BROWSERS)), None):
        return found
    raise PeftlabError(
        f"--pdf needs Chromium, and none of {', '.join(BROWSERS)} is on PATH. Install it, or leave --pdf out and "
        "print the page from a browser"
    )


def print_pdf(page: Path) -> Path:
    """Print an HTML page -> the PDF beside it, whole or not at all. It leads to its sections and the network only.

    Raises PeftlabError without Chromium, and where it fails.
    """
    browser, pdf = find_browser(), page.with_suffix(".pdf")
    with replacing(pdf) as part:
        alone = part.with_name(page.name)
        alone.write_text(_BESIDE.sub(r"\1", page.read_text("utf-8")), "utf-8")
        command = [
            browser,
            "--headless",
            "--disable-gpu",
            "--no-pdf-header-footer",
            f"--user-data-dir={part.with_name('profile')}",  # the reader's own may be open in a window
            f"--print-to-pdf={part}",
            alone.resolve().as_uri(),
        ]
        if hasattr(os, "geteuid") and os.geteuid() == 0:  # as in containers; Chromium gives root no sandbox
            command.insert(1, "--no-sandbox")
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=LONGEST)
        except subprocess.TimeoutExpired:
            raise PeftlabError(f"{page}: {browser} took more than {LONGEST} s. Print it from a window") from None
        if done.returncode or not part.is_file():
            says = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise PeftlabError(f"{page}: {browser} cannot print it ({says}). Print it from a window")
    return pdf
