"""Slides -> one HTML file a lesson, which needs nothing else, and the page that leads to them."""

from collections.abc import Sequence

from ..page.render import TEMPLATES
from .slides import Slide


def render_deck(title: str, slides: Sequence[Slide]) -> str:
    """The HTML of one lesson's slides."""
    return TEMPLATES.get_template("slides.html").render(title=title, slides=slides)


def render_decks(decks: Sequence[tuple[str, str]]) -> str:
    """The HTML page that leads to the slides. decks: (name, title) of each lesson."""
    return TEMPLATES.get_template("decks.html").render(decks=decks)
