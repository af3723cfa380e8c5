"""A server for the clients of other projects: it runs in a process, and may run in an environment, of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients import running_server


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Host and port of a server."""
    with running_server() as (base_url, _):
        yield base_url.removeprefix("http://")
