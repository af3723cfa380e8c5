"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.app import create_app
from service.settings import Settings
from tests.clients import ApplicationClient, application_client, running_server


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
