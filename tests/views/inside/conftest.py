"""Explorers opened in Chromium."""

import pytest


@pytest.fixture
def opened(browser, tmp_path):
    """Open explorers as a page of their own; afterwards the page has said nothing and asked for nothing."""
    said, pages = [], []

    def open_(*explorers, width=1000, touch=False):
        file = tmp_path / "page.html"
        body = "".join(each.html("Numbers in boxes.") for each in explorers)
        file.write_text(
            f'<!DOCTYPE html><meta name="viewport" content="width=device-width"><body>{body}', encoding="utf-8"
        )
        page = browser.new_page(viewport={"width": width, "height": 900}, has_touch=touch)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or said.append(request.url))
        page.goto(file.as_uri())
        page.wait_for_selector("section")
        pages.append(page)
        return page

    yield open_
    for page in pages:
        page.close()
    assert said == []
