"""Fixtures of the comparisons with other frameworks; none of these is imported before a test needs it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from tests.peers.tally import Tally, write


@pytest.fixture(scope="session")
def seed() -> int:
    """Where all drawn cases come from."""
    return int(os.environ.get("CONVPOOL_PEERS_SEED", "20260519"))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Keep PyTorch to one thread, where these small operands are fastest and every order of writes is the same."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def finish(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Write what was compared, fail with the first failures, and hold the numbers of cases to lower bounds."""

    def finish(tally: Tally, *more: Tally, **at_least: int) -> None:
        for one in (tally, *more):
            write(request, one)
        failures = [failure for one in (tally, *more) for failure in one.failures]
        if failures:
            shown = "\n".join(failures[:8])
            pytest.fail(f"{len(failures)} cases of {tally.title} failed, among them\n{shown}", pytrace=False)
        for how, number in at_least.items():
            assert tally.counts[how.replace("_", " ")] >= number, f"{tally.title}: too few {how.replace('_', ' ')}"

    return finish
