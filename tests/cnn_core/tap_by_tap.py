"""A second oracle of convolution for layers that are too large for plain loops: one product of matrices for each tap.

It works on an input that was padded beforehand, in float64 and without cnn_core. test_algorithms.py holds it against
the loops.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import threadpoolctl
from numpy.typing import NDArray

from tests.oracle.windows import (
    Geometry,
    from_channels_last,
    geometry,
    kernel_from_channels_last,
    kernel_to_channels_last,
    to_channels_last,
)
from tests.strategies import ConvCase

Array = NDArray[Any]
PAD_MODES: dict[str, Any] = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
blas = threadpoolctl.ThreadpoolController()
RESULTS = ("output", "grad_input", "grad_weight", "grad_bias")


@dataclass(frozen=True)
class Results:
    """All results of a convolution in float64, and how many products each of their elements adds up."""

    output: Array
    grad_input: Array
    grad_weight: Array
    grad_bias: Array
    terms: dict[str, int]


def conv(case: ConvCase) -> Results:
    """Compute forward and backward of a convolution."""
    parameters = dict(case.parameters)
    data_format, groups = parameters.pop("data_format", "channels_last"), parameters.pop("groups", 1)
    padding_mode = parameters.pop("padding_mode", "zeros")
    image = to_channels_last(case.input, data_format)
    kernel = kernel_to_channels_last(case.weight, data_format)
    gradient = to_channels_last(case.grad_output, data_format)
    windows = geometry(
        image.shape[1:-1],
        kernel.shape[:-2],
        parameters.pop("stride", 1),
        parameters.pop("padding", 0),
        parameters.pop("dilation", 1),
    )
    assert not parameters

    pads, mode = [(0, 0), *windows.padding, (0, 0)], PAD_MODES[padding_mode]
    padded = np.pad(image, pads, mode=mode) if image.size else np.zeros((0, *_padded(windows), image.shape[-1]))
    features = kernel.shape[-1]
    output = np.zeros((len(image), *windows.output, features))
    grad_weight, grad_padded = np.zeros(kernel.shape), np.zeros(padded.shape)
    with np.errstate(all="ignore"), blas.limit(limits=1):  # of small products, each thread waits for the others
        for tap, place in _places(windows):
            by_group = _by_group(padded[place], groups)  # (G, P, C/G)
            matrices = _by_group(kernel[tap], groups)  # (G, C/G, F/G)
            gradients = _by_group(gradient, groups)  # (G, P, F/G)
            output += _together(by_group @ matrices, output.shape)
            grad_weight[tap] = _together(by_group.swapaxes(1, 2) @ gradients, grad_weight[tap].shape)
            grad_padded[place] += _together(gradients @ matrices.swapaxes(1, 2), grad_padded[place].shape)
        grad_input = np.zeros(image.shape)
        if padding_mode == "zeros":
            grad_input[...] = grad_padded[(slice(None), *map(_inside, windows.padding, windows.sizes))]
        elif image.size:
            elements = np.arange(image.size).reshape(image.shape)
            np.add.at(grad_input.reshape(-1), np.pad(elements, pads, mode=mode), grad_padded)
        if case.bias is not None:
            output += case.bias.astype(np.float64).reshape(-1)
        grad_bias = gradient.sum(axis=tuple(range(gradient.ndim - 1)))
    taps, windows_in_all = math.prod(windows.kernel), len(image) * math.prod(windows.output)
    return Results(
        from_channels_last(output, data_format),
        from_channels_last(grad_input, data_format),
        kernel_from_channels_last(grad_weight, data_format),
        grad_bias if case.bias is None else grad_bias.reshape(case.bias.shape),
        {
            "output": taps * kernel.shape[-2],
            "grad_input": taps * features // groups,
            "grad_weight": windows_in_all,
            "grad_bias": windows_in_all,
        },
    )


def _padded(windows: Geometry) -> list[int]:
    return [size + sum(pair) for size, pair in zip(windows.sizes, windows.padding, strict=True)]


def _inside(pair: tuple[int, int], size: int) -> slice:
    return slice(pair[0], pair[0] + size)


def _places(windows: Geometry) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Each tap, and where it lies in the padded input under all windows."""
    for tap in windows.taps():
        along = zip(tap, windows.dilation, windows.stride, windows.output, strict=True)
        slices = (
            slice(offset * dilation, offset * dilation + (count - 1) * stride + 1, stride)
            for offset, dilation, stride, count in along
        )
        yield tap, (slice(None), *slices)


def _by_group(array: Array, groups: int) -> Array:
    """(..., channels) to (G, everything else, channels/G)."""
    rows = math.prod(array.shape[:-1])
    return array.reshape(rows, groups, array.shape[-1] // groups).transpose(1, 0, 2)


def _together(matrices: Array, shape: tuple[int, ...]) -> Array:
    """(G, everything else, channels/G) to a shape that ends in channels."""
    return matrices.transpose(1, 0, 2).reshape(shape)


def assert_near(actual: Array | None, expected: Array, bound: float, terms: int) -> None:
    """The largest error is within a bound, relative to the largest of what is expected.

    The operands are of about 1. So sums of ``terms`` products are not taken for smaller than they typically are: a
    single one of them may be as near to 0 as chance has it.
    """
    assert actual is not None
    assert actual.shape == expected.shape
    if expected.size:
        scale = max(float(np.abs(expected).max()), math.sqrt(max(terms, 1)))
        worst = float(np.abs(actual.astype(np.float64) - expected).max()) / scale
        assert worst <= bound, f"error {worst:.2g} of {scale:.3g}"
