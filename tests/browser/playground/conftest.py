"""Pages of the playground."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.browser.playground.bare import Bare
from tests.browser.playground.modules import blank_page
from tests.browser.playground.playground import Playground


@pytest.fixture
def bare(context: BrowserContext, server_url: str) -> Iterator[Bare]:
    """A page of its own for one module; nothing may be complained about."""
    with context.new_page() as page:
        bare = Bare(page, server_url)
        yield bare
        assert bare.complaints == []


@pytest.fixture
def playground(context: BrowserContext, server_url: str) -> Iterator[Playground]:
    """A new page of its own, not yet open."""
    with context.new_page() as page:
        yield Playground(page, server_url)


@pytest.fixture(scope="module")
def shared(context: BrowserContext, server_url: str) -> Iterator[Playground]:
    """One page whose fragment is changed for layer after layer."""
    with context.new_page() as page:
        playground = Playground(page, server_url)
        playground.open()
        playground.load_formulas()
        yield playground
        playground.assert_sound()


@pytest.fixture(scope="module")
def forms_page(context: BrowserContext, server_url: str) -> Iterator[Page]:
    """A page that has nothing but the modules of the forms."""
    with context.new_page() as page:
        yield blank_page(page, server_url, "service", "state", "controls", "vendor/lit-html")
