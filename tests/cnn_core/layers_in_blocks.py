"""Layers of every kind, in sizes that small_blocks divides into many blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core import AvgPool, Conv, ConvTranspose, LpPool, MaxPool
from cnn_core.runtime.workspace import MAX_KEPT_BYTES, Workspace

Array = NDArray[Any]

BLOCK_BYTES = 2**13
"""For small_blocks."""

CONVOLUTIONS: dict[str, tuple[Conv | ConvTranspose, tuple[int, ...], tuple[int, ...]]] = {
    "direct": (Conv(padding=1, algorithm="direct"), (3, 20, 21, 12), (3, 3, 12, 16)),
    "winograd": (Conv(padding=1, algorithm="winograd"), (3, 21, 22, 12), (3, 3, 12, 9)),
    "fastest": (Conv(padding=2, algorithm="fastest"), (3, 21, 22, 40), (3, 3, 40, 33)),
    "fft": (Conv(padding=1, algorithm="fft"), (3, 20, 21, 5), (7, 7, 5, 6)),
    "channels first": (Conv(padding=1, data_format="channels_first"), (3, 36, 20, 21), (35, 36, 3, 3)),
    "strided": (Conv(padding=1, stride=2), (3, 31, 30, 12), (3, 3, 12, 10)),
    "dilated": (Conv(padding=2, dilation=2), (3, 20, 21, 6), (3, 3, 6, 10)),
    "replicated padding": (Conv(padding=2, padding_mode="replicate"), (3, 20, 21, 9), (3, 3, 9, 10)),
    "few channels": (Conv(padding=1), (2, 30, 31, 2), (3, 3, 2, 5)),
    "depthwise": (Conv(padding=1, groups=24), (3, 21, 22, 24), (3, 3, 1, 24)),
    "depthwise, strided": (Conv(padding=1, groups=24, stride=2), (3, 31, 32, 24), (3, 3, 1, 24)),
    "depthwise with a multiplier": (Conv(padding=1, groups=12), (3, 21, 22, 12), (3, 3, 1, 24)),
    "depthwise, channels first": (
        Conv(padding=1, groups=24, data_format="channels_first"),
        (3, 24, 21, 22),
        (24, 1, 3, 3),
    ),
    "grouped": (Conv(padding=1, groups=4), (3, 20, 21, 12), (3, 3, 3, 16)),
    "grouped, strided": (Conv(padding=1, groups=4, stride=2), (3, 30, 31, 12), (3, 3, 3, 16)),
    "pointwise": (Conv(), (3, 24, 25, 20), (1, 1, 20, 24)),
    "pointwise, strided": (Conv(stride=2), (3, 34, 35, 20), (1, 1, 20, 24)),
    "1-D": (Conv(padding=2), (5, 400, 6), (5, 6, 8)),
    "3-D": (Conv(padding=1), (2, 8, 9, 10, 4), (3, 3, 3, 4, 5)),
    "large weight": (Conv(padding=1, algorithm="direct"), (3, 9, 10, 160), (3, 3, 160, 180)),
    "transposed": (ConvTranspose(stride=2, padding=1), (3, 15, 16, 12), (3, 3, 10, 12)),
    "transposed, dense": (ConvTranspose(padding=1), (3, 15, 16, 40), (3, 3, 36, 40)),
    "transposed, depthwise": (ConvTranspose(stride=2, groups=24), (3, 15, 16, 24), (3, 3, 1, 24)),
}
POOLINGS: dict[str, tuple[MaxPool | AvgPool | LpPool, tuple[int, ...]]] = {
    "max": (MaxPool(kernel_size=2), (3, 40, 41, 6)),
    "max, overlapping": (MaxPool(kernel_size=3, stride=2, padding=1), (3, 40, 41, 6)),
    "max, dense": (MaxPool(kernel_size=(5, 2), stride=1, padding=((2, 1), (0, 1))), (3, 30, 31, 6)),
    "max, dilated": (MaxPool(kernel_size=3, stride=(3, 1), dilation=2), (3, 40, 31, 6)),
    "max, all ties": (MaxPool(kernel_size=3, stride=1, ties="all"), (3, 30, 31, 6)),
    "max, split ties": (MaxPool(kernel_size=3, stride=2, padding=1, ties="split"), (3, 30, 31, 6)),
    "max, indices": (MaxPool(kernel_size=3, stride=2, return_indices=True, index_scheme="tensor"), (3, 40, 41, 6)),
    "max of many taps": (MaxPool(kernel_size=(9, 8), stride=3, return_indices=True), (3, 40, 41, 6)),
    "max, channels first": (MaxPool(kernel_size=3, stride=2, data_format="channels_first"), (3, 6, 40, 41)),
    "max, 1-D": (MaxPool(kernel_size=4, stride=3), (3, 900, 6)),
    "max, 3-D": (MaxPool(kernel_size=2, stride=1), (2, 12, 11, 10, 4)),
    "max, adaptive": (MaxPool(output_size=(7, 9)), (6, 40, 41, 6)),
    "avg": (AvgPool(kernel_size=2), (3, 40, 41, 6)),
    "avg, overlapping": (AvgPool(kernel_size=3, stride=2, padding=1), (3, 40, 41, 6)),
    "avg, dense": (AvgPool(kernel_size=(5, 2), stride=1, padding=((2, 1), (0, 1))), (3, 30, 31, 6)),
    "avg, channels first": (AvgPool(kernel_size=3, stride=1, data_format="channels_first"), (3, 6, 30, 31)),
    "avg, adaptive": (AvgPool(output_size=(7, 9)), (6, 40, 41, 6)),
    "lp": (LpPool(kernel_size=2), (3, 40, 41, 6)),
    "lp, overlapping": (LpPool(kernel_size=3, stride=2, norm_type=3), (3, 40, 41, 6)),
    "lp, channels first": (LpPool(kernel_size=3, stride=1, data_format="channels_first"), (3, 6, 30, 31)),
}
CATALOGUE: list[str] = [*CONVOLUTIONS, *POOLINGS]


def calls(name: str, dtype: str = "float32", seed: int = 0, *, odd: bool = False) -> Callable[[], list[Array]]:
    """A function of no arguments that computes a layer forward and backward, and returns all results.

    Of a pooling, values repeat often; ``odd`` puts NaN and infinities among them.
    """
    random = np.random.default_rng(seed)
    if name in CONVOLUTIONS:
        op, input_shape, weight_shape = CONVOLUTIONS[name]
        image, weight = (random.standard_normal(shape).astype(dtype) for shape in (input_shape, weight_shape))
        gradient = random.standard_normal(op.output_shape(input_shape, weight_shape)).astype(dtype)
        if odd:
            image.reshape(-1)[::1501] = np.nan
        return lambda: [op.forward(image, weight), *each(op.backward(gradient, image, weight))]
    pool, input_shape = POOLINGS[name]
    image = random.integers(-9, 9, input_shape).astype(dtype)
    gradient = random.standard_normal(pool.output_shape(input_shape)).astype(dtype)
    if odd:
        image.reshape(-1)[::97] = np.nan
        image.reshape(-1)[5::101] = -np.inf
    return lambda: [*each(pool.forward(image)), pool.backward(gradient, image)]


def each(results: Any) -> Iterable[Array]:
    return results if isinstance(results, tuple) else (results,)


def same_bits(left: list[Array], right: list[Array]) -> bool:
    """Whether all results are the same, bit for bit."""
    return all(
        one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()
        for one, other in zip(left, right, strict=True)
    )


def fill_what_is_kept() -> None:
    """Leave ones in every bit of what this thread keeps, NaN in floating types; the views of it stay."""
    with Workspace() as workspace:
        (everything,) = workspace.arrays((MAX_KEPT_BYTES - 64,), dtype="uint8")
        everything[...] = 255
