"""Pictures of a page: numbered, with the sentence that says what each shows, and as large as the window on a click."""

import itertools
import re

_PICTURE = re.compile(r'<img alt="([^"]*)"(?P<classes>[^>]*) src="data:image/png;base64,[^"]*"[^>]*>')
_EXPLORER = 'class="peftlab-strip"'  # of its picture, which its script hides


def number_figures(html: str) -> str:
    """Every picture of an output with the sentence that says what it shows as its numbered caption.

    A click, or the space bar, shows it as large as the window, and again as it was: that is a checkbox, and no script.

    >>> print(number_figures('<img alt="A rises." src="data:image/png;base64,iVBO"/>'))
    <figure id="figure-1"><label class="zoom"><input type="checkbox" aria-label="Enlarge figure 1"/>\
<span><img alt="A rises." src="data:image/png;base64,iVBO"/></span></label>
    <figcaption><a href="#figure-1">Figure 1.</a> A rises.</figcaption></figure>
    """
    numbers = itertools.count(1)

    def framed(found: re.Match[str]) -> str:
        name = f"figure-{(n := next(numbers))}"
        caption = f'<figcaption><a href="#{name}">Figure {n}.</a> {found[1]}</figcaption>'
        picture = found[0]
        if _EXPLORER not in found["classes"]:
            box = f'<input type="checkbox" aria-label="Enlarge figure {n}"/>'
            picture = f'<label class="zoom">{box}<span>{picture}</span></label>'
        return f'<figure id="{name}">{picture}\n{caption}</figure>'

    return _PICTURE.sub(framed, html)
