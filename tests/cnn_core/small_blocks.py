"""Computation in many blocks of small layers."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cnn_core.kernels import passes
from cnn_core.runtime.threads import run_blocks


@contextlib.contextmanager
def small_blocks(block_bytes: int, partial_sum_bytes: int = 2**20) -> Iterator[list[int]]:
    """All limits on blocks, or on sums side by side, become so much smaller as these bytes are than 1 MiB.

    Yields the numbers of blocks of all that was computed since; copies do not count.
    """
    counts: list[int] = []

    def counted(blocks: Any, make_worker: Callable[..., Any], *rest: Any, **named: Any) -> None:
        listed = list(blocks)
        counts.append(len(listed))
        run_blocks(listed, make_worker, *rest, **named)

    forget_what_is_kept()
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if not name.startswith(("cnn_core.kernels.", "cnn_core.runtime.")):
                continue
            for attribute, value in list(vars(module).items()):
                if attribute.endswith("BLOCK_BYTES"):
                    patch.setattr(module, attribute, max(1, value * block_bytes >> 20))
                elif attribute.endswith("PARTIAL_SUM_BYTES"):
                    patch.setattr(module, attribute, max(1, value * partial_sum_bytes >> 20))
                elif value is run_blocks and name not in {run_blocks.__module__, passes.__name__}:
                    patch.setattr(module, attribute, counted)
        try:
            yield counts
        finally:
            forget_what_is_kept()


def forget_what_is_kept() -> None:
    """Layouts of blocks that are kept for the next call were made with other limits."""
    for name, module in list(sys.modules.items()):
        if name.startswith("cnn_core."):
            for value in list(vars(module).values()):
                getattr(value, "cache_clear", void)()


def void() -> None:
    """Do nothing."""
