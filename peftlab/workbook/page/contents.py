"""Headings that can be linked to, the table of contents made of them, and links from lesson to lesson."""

import re
import unicodedata
from collections.abc import Container
from dataclasses import dataclass

_HEADING = re.compile(r"<script\b.*?</script>|<h(?P<level>[2-4])>(?P<inner>.*?)</h(?P=level)>", re.S)
_TAG = re.compile(r"<[^>]+>")
_LESSON = re.compile(r'<a href="(\d\d_\w+)\.ipynb">(.*?)</a>', re.S)
LISTED = 3  # the deepest level that a table of contents shows


@dataclass(frozen=True)
class Heading:
    """A heading of a page. name: its id; inner: its HTML, without links."""

    level: int
    name: str
    inner: str


def slug(heading: str) -> str:
    """The id of a heading: its words, without the number of the section, which changes when one is put before it.

    >>> slug("2 What does <code>LoRA</code> train?"), slug("$$")
    ('what-does-lora-train', 'section')
    """
    text = unicodedata.normalize("NFKC", _TAG.sub("", heading)).lower()
    text = re.sub(r"&\w+;", " ", re.sub(r"^\s*\d+\s+", "", text))
    return re.sub(r"\W+", "-", text).strip("-") or "section"


def link_headings(html: str) -> tuple[str, list[Heading]]:
    """The HTML with an id on every heading below the first level -> (HTML, those that the contents list).

    >>> link_headings("<h2>Summary</h2><h2>Summary</h2>")[0]
    '<h2 id="summary">Summary</h2><h2 id="summary-2">Summary</h2>'
    """
    found: list[Heading] = []
    taken: set[str] = set()

    def linked(match: re.Match[str]) -> str:
        if match["level"] is None:  # a script, whatever its texts look like
            return match[0]
        name, level = _free(slug(match["inner"]), taken), match["level"]
        found.append(Heading(int(level), name, re.sub(r"</?a\b[^>]*>", "", match["inner"])))
        return f'<h{level} id="{name}">{match["inner"]}</h{level}>'

    html = _HEADING.sub(linked, html)
    return html, [heading for heading in found if heading.level <= LISTED]


def _free(name: str, taken: set[str]) -> str:
    """The name, numbered where it is taken; it is taken from then on."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    taken.add(free)
    return free


def link_lessons(html: str, pages: Container[str]) -> str:
    """Links to lessons lead to their pages; where there is no page, the words stay.

    >>> link_lessons('<a href="01_a.ipynb">one</a>, <a href="02_b.ipynb">two</a>', {"01_a"})
    '<a href="01_a.html">one</a>, two'
    """
    return _LESSON.sub(lambda link: f'<a href="{link[1]}.html">{link[2]}</a>' if link[1] in pages else link[2], html)
