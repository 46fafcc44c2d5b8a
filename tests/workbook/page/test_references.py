"""What a page would load from elsewhere."""

import pytest

from peftlab.workbook.page.references import external_references


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<img alt="" src="//cdn.example/x.png">',
        '<link rel="stylesheet" href="http://fonts.example/a.css">',
        "<style>@font-face { src: url('https://fonts.example/a.woff') }</style>",
        '<style>@import "https://fonts.example/a.css";</style>',
        '<p style="background: url(//x.example/a.png)">',
    ],
)
def test_external_references_are_seen(html):
    assert external_references(html)


def test_links_that_only_a_reader_follows_are_no_external_references():
    assert not external_references('<a href="https://arxiv.org">paper</a><math xmlns="http://www.w3.org/">')
