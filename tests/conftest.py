"""Fixtures shared by all tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from service.app import create_app
from service.settings import Settings
from tests.clients import ApplicationClient, application_client, running_server


@pytest.hookimpl(tryfirst=True)  # before those that are not asked for are deselected
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to ``make test-exhaustive`` all but every n-th case of a test that is marked ``one_in(n)``."""
    seen: Counter[str] = Counter()
    for item in items:
        marker = item.get_closest_marker("one_in")
        if marker is None:
            continue
        function = item.nodeid.partition("[")[0]
        if seen[function] % marker.args[0]:
            item.add_marker(pytest.mark.exhaustive)
        seen[function] += 1


@pytest.fixture(scope="session")
def client() -> Iterator[ApplicationClient]:
    """The service with default settings, called inside this process."""
    with application_client(create_app(Settings())) as client:
        yield client


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The base URL of ``convpool serve`` running in a process of its own on a loopback socket."""
    with running_server() as (base_url, _):
        yield base_url
