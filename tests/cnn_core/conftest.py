"""Fixtures of several files of the core's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cnn_core import get_threads, set_threads


@pytest.fixture
def _one_thread() -> Iterator[None]:
    before = get_threads()
    set_threads(1)
    yield
    set_threads(before)
