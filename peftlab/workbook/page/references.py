"""What a page would load from elsewhere: nothing, or it cannot be mailed."""

import re
from html.parser import HTMLParser


class _References(HTMLParser):
    """Collects everything that a browser would load by itself; links that a reader may click are not among them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_style = tag == "style"
        for key, value in attrs:
            loads = key in ("src", "srcset", "poster", "data") or (key == "href" and tag not in ("a", "area", "base"))
            if loads and re.match(r"\s*(https?:)?//", value or "", re.I):
                self.found.append(f"<{tag} {key}={value}>")
            if key in ("style", "fill"):
                self._styles(value or "")

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self._styles(data)
            self._in_style = False

    def _styles(self, css: str) -> None:
        self.found += re.findall(r"(?:url\(|@import)\s*['\"]?\s*(?:https?:)?//[^'\")\s]+", css, re.I)


def external_references(html: str) -> list[str]:
    """What the page would fetch from the network; empty for a self-contained page.

    >>> external_references('<script src="//cdn.example/x.js"></script><a href="https://arxiv.org">paper</a>')
    ['<script src=//cdn.example/x.js>']
    """
    parser = _References()
    parser.feed(html)
    parser.close()
    return parser.found
