"""Fixtures of the client's tests."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from convpool.client import Client
from convpool.client.cli import arguments
from tests.client.commands import CONV, IMAGE, WEIGHT, StandIn


@pytest.fixture(scope="session")
def local() -> Iterator[Client]:
    """A client that computes in this process."""
    with Client(local=True) as client:
        yield client


@pytest.fixture(autouse=True)
def _no_server_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONVPOOL_URL", raising=False)
    monkeypatch.delenv("CONVPOOL_API_KEY", raising=False)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with operands, in which the commands run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    np.save("x.npy", IMAGE)
    np.save("w.npy", WEIGHT)
    np.save("y.npy", CONV.forward(IMAGE, WEIGHT))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    server = StandIn()
    monkeypatch.setattr(arguments, "Client", functools.partial(Client, transport=httpx.MockTransport(server)))
    return server
