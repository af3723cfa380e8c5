"""How large and how fine operands may be for every sum of a layer to be exact, whatever order it is summed in."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core import AvgPool, Conv, LpPool, MaxPool, MaxUnpool, Unfold
from cnn_core.ops.base import Op, ResolvedOp
from cnn_core.ops.conv_base import Convolution
from cnn_core.ops.quantized_base import QuantizedConvolution

from ..operations.tolerance import term_counts

__all__ = ["MAX_COUNTED_WINDOWS", "Sums", "copies_in_padding", "divisors", "sums_of", "window_counts"]

SIGNIFICAND_BITS = {"float16": 11, "float32": 24, "float64": 53}
LARGEST_INTEGER = 8
"""Elements of kind ``integers`` are at most this, before they are multiplied by what they must be divisible by."""

MAX_DIVISOR = 2**20
"""The least common multiple of a layer's divisors, if it is beyond this, is not taken into account."""

MAX_TIES = 16
"""Taps of a window whose gradient can be split in equal shares that are integers."""

MAX_COUNTED_WINDOWS = 2**15
"""Windows along an axis that are counted before it is known whether the layer is too large."""


@dataclass(frozen=True)
class Sums:
    """The sums of a layer, forward and backward.

    Parameters
    ----------
    terms : int
        At least as many as the longest of them has.
    factors : int
        How many operands a term is the product of: 1 or 2.
    divisor : int
        Number that all divisors of the layer divide: 1 if nothing is divided, 0 if it is too large to be of use.
    shares : int
        The largest number of shares of ``divisor`` that one term has.
    """

    terms: int
    factors: int
    divisor: int = 1
    shares: int = 1

    def grid_bits(self, dtype: np.dtype[Any]) -> int:
        """Return b: sums of multiples of 2^-b in [-1, 1), and of their products, are exact in float64.

        The divisor counts too, as terms may be multiplied by it before they are added.
        """
        room = 53 - (self.terms - 1).bit_length() - max(0, self.divisor - 1).bit_length()
        return min(SIGNIFICAND_BITS[dtype.name] - 1, room // self.factors)

    def largest_integer(self, dtype: np.dtype[Any]) -> int:
        """Return m: of operands k * divisor, with k from -m to m, a type has all sums; 0 if there is no such m."""
        if not self.divisor:
            return 0
        limit = int(2 ** SIGNIFICAND_BITS[dtype.name])
        odd = self.divisor // (self.divisor & -self.divisor)
        each = limit // (self.terms * max(odd, self.shares))
        return min(LARGEST_INTEGER, each if self.factors == 1 else math.isqrt(each))


def sums_of(op: Op, resolved: ResolvedOp[Any], shapes: Mapping[str, tuple[int, ...]]) -> Sums:
    """Return what is known of the sums of a layer.

    Parameters
    ----------
    op : Op
    resolved : ResolvedOp
    shapes : mapping of str to shape
        Of the operands of forward.
    """
    if isinstance(op, QuantizedConvolution):
        features = shapes["weight"][0 if op.data_format == "channels_first" else -1]
        return Sums(math.prod(shapes["weight"]) // features, 2)
    terms = max(1, *term_counts(op, resolved, shapes).values())
    axes = resolved.windows.axes
    terms *= copies_in_padding(op, resolved)
    if not isinstance(op, (Convolution, Unfold, MaxUnpool)):
        # an element may be in more windows than a window has taps, if there are more windows than elements
        terms = max(terms, math.prod(-(-axis.tap_count // axis.size) + 1 for axis in axes))
    factors = 2 if isinstance(op, Convolution) or (isinstance(op, LpPool) and op.norm_type != 1) else 1
    if isinstance(op, MaxPool) and op.ties == "split":
        taps = math.prod(-(-axis.tap_count // axis.output_size) for axis in axes)
        multiple = math.lcm(*range(1, taps + 1)) if taps <= MAX_TIES else 0
        return Sums(terms, factors, multiple, multiple)
    if not isinstance(op, AvgPool):
        return Sums(terms, factors)
    smallest, multiple = _divisors(op, resolved)
    if multiple > MAX_DIVISOR:
        return Sums(terms, factors, divisor=0)
    return Sums(terms, factors, multiple, multiple // smallest)


def copies_in_padding(op: Op, resolved: ResolvedOp[Any]) -> int:
    """Return how often an element is in the padded input at most: its gradient is the sum of those of its copies."""
    if not isinstance(op, Conv) or op.padding_mode == "zeros":
        return 1
    copies = 1
    for axis, (before, after) in zip(resolved.windows.axes, resolved.windows.padding, strict=True):
        if op.padding_mode == "replicate":
            copies *= 1 + (max(before, after) if axis.size > 1 else before + after)
        else:  # mirrored, or wrapped around, once at each side
            copies *= 1 + (before > 0) + (after > 0)
    return copies


def _divisors(op: AvgPool, resolved: ResolvedOp[Any]) -> tuple[int, int]:
    """Return the smallest divisor of a layer and the least common multiple of all."""
    if op.divisor_override is not None:
        return abs(op.divisor_override), abs(op.divisor_override)
    each = [{int(count) for count in counts if count} for counts in window_counts(op, resolved)]
    products = {math.prod(counts) for counts in itertools.product(*each)}
    multiple = 1
    for product in products:
        multiple = math.lcm(multiple, product)
        if multiple > MAX_DIVISOR:
            break
    return min(products), multiple


def window_counts(op: AvgPool, resolved: ResolvedOp[Any]) -> list[NDArray[np.int64]]:
    """Return how many taps count in the divisor of each window, axis by axis: their product is the divisor."""
    return [axis.counts(include_padding=op.count_include_pad) for axis in resolved.windows.axes]


def divisors(op: AvgPool, resolved: ResolvedOp[Any]) -> NDArray[np.int64]:
    """Return the divisor of each window, in a shape that broadcasts over the output."""
    counts: NDArray[np.int64] = functools.reduce(np.multiply.outer, window_counts(op, resolved))
    return counts[..., None] if op.data_format == "channels_last" else counts
