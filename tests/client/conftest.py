"""Fixtures of the client's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from convpool.client import Client


@pytest.fixture(scope="session")
def local() -> Iterator[Client]:
    """A client that computes in this process."""
    with Client(local=True) as client:
        yield client


@pytest.fixture(autouse=True)
def _no_server_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONVPOOL_URL", raising=False)
    monkeypatch.delenv("CONVPOOL_API_KEY", raising=False)
