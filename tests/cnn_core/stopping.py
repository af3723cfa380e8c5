"""A token that cancels itself, and limits so small that small layers are divided like large ones."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest

from cnn_core import Cancellation
from cnn_core.kernels import passes, products
from cnn_core.kernels.conv import depthwise, fft


class StopsAt(Cancellation):
    """Cancels itself at the n-th check, by whichever thread; without a number, it only counts."""

    def __init__(self, check: int | None = None) -> None:
        super().__init__()
        self.checks = 0
        self._stop_at = check
        self._lock = threading.Lock()

    def check(self) -> None:
        """Count, and cancel when it is time."""
        with self._lock:
            self.checks += 1
            if self.checks == self._stop_at:
                self.cancel()
        super().check()


@contextlib.contextmanager
def small_passes(part_bytes: int = 256) -> Iterator[None]:
    """What is divided only so that a computation can stop is divided into parts of so many bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "PART_BLOCK_BYTES", part_bytes)
        patch.setattr(products, "MAX_MATRICES", 2)
        patch.setattr(depthwise, "MAX_PRODUCTS", part_bytes // 4)
        patch.setattr(fft, "MAX_TRANSFORMED", 16)
        yield
