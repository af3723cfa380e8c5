"""Parts of an axis, and whether what is computed from them has the bits of the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

__all__ = ["assert_same_bits", "part_of", "parts"]

Array = NDArray[Any]

parts = st.tuples(st.integers(0, 2**16), st.integers(0, 2**16))
"""For ``part_of``."""


def part_of(size: int, numbers: tuple[int, int]) -> slice:
    """Some adjacent elements of an axis."""
    start = numbers[0] % size
    return slice(start, start + 1 + numbers[1] % (size - start))


def assert_same_bits(part: Array | None, whole: Array | None, what: object) -> None:
    """Not by number, as 0 equals -0."""
    assert part is not None
    assert whole is not None
    assert np.ascontiguousarray(part).tobytes() == np.ascontiguousarray(whole).tobytes(), what
