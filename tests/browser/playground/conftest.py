"""Pages of the playground."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext

from tests.browser.playground.bare import Bare


@pytest.fixture
def bare(context: BrowserContext, server_url: str) -> Iterator[Bare]:
    """A page of its own for one module; nothing may be complained about."""
    with context.new_page() as page:
        bare = Bare(page, server_url)
        yield bare
        assert bare.complaints == []
