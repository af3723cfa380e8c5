"""The random words that cases are drawn from: Philox4x64-10, a function of the seed, the case, the stream and a place.

Words are 64-bit. Block ``j`` of stream ``s`` of case ``i`` is Philox4x64-10 of the key (seed, i) and the counter
(j + 1, 0, 0, s), and has four of them. NumPy's ``Generator`` is not used: what its distributions draw may change.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["STREAMS", "Draws", "words"]

Candidate = TypeVar("Candidate")
Words = NDArray[np.uint64]

STREAMS = {
    name: number
    for number, name in enumerate(
        (
            "layer",
            "input",
            "weight",
            "bias",
            "grad_output",
            "indices",
            "input_zero_point",
            "weight_zero_point",
            "output_zero_point",
            "input_scale",
            "weight_scale",
            "output_scale",
        )
    )
}
"""The streams of a case: the first one for its parameters and shapes, then one for the elements of each operand."""

BLOCK_WORDS = 4
DRAWN_BLOCKS = 16
_local = threading.local()


def words(seed: int, case: int, stream: str, count: int, first_block: int = 0) -> Words:
    """Return words of a stream from the start of a block on."""
    if not hasattr(_local, "generator"):
        _local.generator = np.random.Philox(key=0)
    _local.generator.state = {
        "bit_generator": "Philox",
        "state": {
            # NumPy counts up before it computes a block
            "counter": np.array([first_block, 0, 0, STREAMS[stream]], dtype=np.uint64),
            "key": np.array([seed, case], dtype=np.uint64),
        },
        "buffer": np.zeros(BLOCK_WORDS, dtype=np.uint64),
        "buffer_pos": BLOCK_WORDS,
        "has_uint32": 0,
        "uinteger": 0,
    }
    drawn: Words = _local.generator.random_raw(count)
    return drawn


class Draws:
    """Choices that are drawn one after the other, each from the next word of a case's first stream.

    Parameters
    ----------
    seed, case : int
    """

    def __init__(self, seed: int, case: int) -> None:
        self._seed, self._case = seed, case
        self._fetched: list[int] = []
        self.taken = 0

    def _word(self) -> int:
        place = self.taken
        if place == len(self._fetched):
            count = DRAWN_BLOCKS * BLOCK_WORDS
            self._fetched += words(self._seed, self._case, "layer", count, place // BLOCK_WORDS).tolist()
        self.taken += 1
        return self._fetched[place]

    def between(self, low: int, high: int) -> int:
        """Draw an integer from ``low`` to ``high``: low + word mod (high - low + 1); without a word if they are one."""
        return low if low == high else low + self._word() % (high - low + 1)

    def choose(self, candidates: Sequence[Candidate]) -> Candidate:
        """Draw one of some candidates: the one at word mod their number; without a word if there is only one."""
        return candidates[self.between(0, len(candidates) - 1)]
