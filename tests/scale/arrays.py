"""What the tests of layers over arrays of Dask share."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["integers_of"]


def integers_of(*shape: int) -> Any:
    """Small whole numbers of float32."""
    return np.random.default_rng(sum(shape)).integers(-4, 5, shape).astype("float32")
