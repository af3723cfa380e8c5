"""Layers that keep a processor busy for long enough that sending them counts for little, and their right results."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["LARGE", "SMALL", "Layer"]

Array = NDArray[np.float64]


class Layer(NamedTuple):
    """A convolution of small integers, whose sums are exact in whatever order they are added.

    The result is computed here by one product of matrices for each tap of the kernel.
    """

    input: Array
    weight: Array
    padding: int
    expected: Array

    @property
    def operands(self) -> dict[str, Any]:
        """Arguments of ``convpool.client.Client.conv_forward``."""
        return {"input": self.input, "weight": self.weight, "padding": self.padding}


def _layer(images: int, size: int, channels: int, kernel: int, filters: int, padding: int) -> Layer:
    random = np.random.default_rng(17)
    input = random.integers(-8, 9, (images, size, size, channels)).astype(np.float64)
    weight = random.integers(-8, 9, (kernel, kernel, channels, filters)).astype(np.float64)
    around = (padding, padding)
    padded = np.pad(input, ((0, 0), around, around, (0, 0)))
    count = size + 2 * padding - kernel + 1
    expected = np.zeros((images, count, count, filters))
    for y in range(kernel):
        for x in range(kernel):
            expected += padded[:, y : y + count, x : x + count] @ weight[y, x]
    return Layer(input, weight, padding, expected)


# On the machine where they were chosen, either takes the service some 10 ms of one processor.
SMALL = _layer(images=1, size=16, channels=4, kernel=17, filters=2, padding=90)
"""27 KB are sent: a proxy can keep the request until the response has begun, and send it to another server."""

LARGE = _layer(images=2, size=64, channels=16, kernel=5, filters=32, padding=2)
"""1.1 MB are sent."""
