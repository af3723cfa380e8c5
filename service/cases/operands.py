"""The elements of operands: integers and numbers on a grid, from random words, and what the edges are filled with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core.operands import split_layer_shape
from cnn_core.ops.base import ResolvedOp
from cnn_core.ops.indices import ElementIndices

from .streams import words

__all__ = ["FILLS", "Filling", "drawn_indices"]

Array = NDArray[Any]
Words = NDArray[np.uint64]

SPECIAL_EVERY = 5
"""One element of so many, on average, is what a fill is about."""

LARGEST_BIAS = 1000


class Filling:
    """How the operands of one case are filled.

    Parameters
    ----------
    seed, case : int
    bits : int
        Numbers on a grid are multiples of 2^-bits.
    largest : int
        Integers are at most this.
    multiple : int
        What integers of the input and of ``grad_output`` are multiplied by, so that they can be divided.
    terms : int
        Of the longest sum.
    """

    def __init__(self, seed: int, case: int, *, bits: int, largest: int, multiple: int, terms: int) -> None:
        self._seed, self._case = seed, case
        self.bits, self.largest, self.multiple, self.terms = bits, largest, multiple, terms

    def words(self, name: str, count: int) -> Words:
        """Return random words for an operand."""
        return words(self._seed, self._case, name, count)

    def fill(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], fill: str) -> Array:
        """Return an operand, each of whose elements comes from the word at its place in C order."""
        drawn = self.words(name, math.prod(shape))
        with np.errstate(all="ignore"):
            filled: Array = FILLS[fill](self, name, drawn).astype(dtype).reshape(shape)
        return filled


def _remainders(drawn: Words, count: int) -> Array:
    """Return words mod a number as integers with a sign."""
    remainders: Array = drawn % np.uint64(count)
    return remainders.astype(np.int64)


def _grid(filling: Filling, _: str, drawn: Words) -> Array:
    """Return multiples of 2^-b from -1 to 1 - 2^-b: the upper b + 1 bits of each word, less 2^b."""
    upper: Array = drawn >> np.uint64(63 - filling.bits)
    steps: Array = upper.astype(np.int64) - 2**filling.bits
    return steps * 2.0**-filling.bits


def _integers(filling: Filling, name: str, drawn: Words) -> Array:
    """Return integers from -m to m: word mod (2 m + 1), less m; times a number where they are divided later."""
    multiple = filling.multiple if name in ("input", "grad_output") else 1
    return (_remainders(drawn, 2 * filling.largest + 1) - filling.largest) * float(multiple)


def _from(*candidates: float) -> Callable[[Filling, str, Words], Array]:
    """Return candidates: the one at word mod their number."""
    table = np.array(candidates, dtype=np.float64)
    return lambda _filling, _name, drawn: table[_remainders(drawn, len(table))]


def _among_integers(*specials: float) -> Callable[[Filling, str, Words], Array]:
    """Return integers, and among them at least one of each special value: where the bits above 2^32 mod 5 are 0."""
    table = np.array(specials, dtype=np.float64)

    def fill(filling: Filling, name: str, drawn: Words) -> Array:
        values = _integers(filling, name, drawn)
        upper = drawn >> np.uint64(32)
        chosen = _remainders(upper, SPECIAL_EVERY) == 0
        values[chosen] = table[_remainders(upper[chosen] // np.uint64(SPECIAL_EVERY), len(table))]
        for index, special in enumerate(table[: len(values)]):  # at the start, the middle, ... of the tensor
            values[index * len(values) // len(table)] = special
        return values

    return fill


def _ramp(_filling: Filling, _name: str, drawn: Words) -> Array:
    return np.arange(len(drawn), dtype=np.float64)


def _negative(filling: Filling, name: str, drawn: Words) -> Array:
    magnitudes: Array = np.abs(_integers(filling, name, drawn))
    return -1 - magnitudes


def _bytes(_filling: Filling, _name: str, drawn: Words) -> Array:
    """Return the upper eight bits of each word, as uint8; int8 has the same bits."""
    return (drawn >> np.uint64(56)).astype(np.uint8)


def _extreme_bytes(_filling: Filling, _name: str, drawn: Words) -> Array:
    """Return the ends of both uint8 and int8, as uint8."""
    ends: Array = np.array([0, 127, 128, 255], np.uint8)
    return ends[_remainders(drawn, 4)]


def _sums_bias(_filling: Filling, _name: str, drawn: Words) -> Array:
    return _remainders(drawn, 2 * LARGEST_BIAS + 1) - LARGEST_BIAS


def _scale(filling: Filling, name: str, drawn: Words) -> Array:
    """Return (128 + word mod 128) * 2^-14: scales from 2^-7 to 2^-6, the output's times about the root of the terms."""
    steps: Array = 128 + _remainders(drawn, 128)
    return steps * 2.0**-7 * _unit_of_scale(filling, name)


def _power_of_two(filling: Filling, name: str, drawn: Words) -> Array:
    steps: Array = 1 + _remainders(drawn, 2)
    return steps * _unit_of_scale(filling, name)


def _unit_of_scale(filling: Filling, name: str) -> float:
    """Return the smallest scale of an operand: so that scaled sums of random bytes fill the range of bytes."""
    root = (filling.terms - 1).bit_length() // 2
    return float(2.0 ** (root - 7 if name == "output_scale" else -7))


FILLS: Mapping[str, Callable[[Filling, str, Words], Array]] = {
    "grid": _grid,
    "integers": _integers,
    "bytes": _bytes,
    "bias of sums": _sums_bias,
    "scale": _scale,
    "power of two": _power_of_two,
    "ramp": _ramp,
    "ties": _from(0.0, 1.0, 1.0, 2.0),
    "equal": _from(3.0),
    "ones": _from(1.0),
    "zeros": _from(0.0),
    "signed zeros": _from(0.0, -0.0, -0.0),
    "zeros and negative": _from(0.0, -0.0, -1.0, -2.0),
    "negative": _negative,
    "NaN": _among_integers(math.nan),
    "infinities": _among_integers(math.inf, -math.inf),
    "all kinds": _among_integers(math.nan, math.inf, -math.inf, -0.0),
    "minus infinity": _from(-math.inf),
    "large": _from(2.0**14, 2.0**14, -(2.0**14)),
    "tiny": _from(2.0**-24, -(2.0**-24), 2.0**-23),
    "half": _from(0.5),
    "small": _from(2.0**-12),
    "extreme bytes": _extreme_bytes,
}
"""What an operand may be filled with, by name."""


def drawn_indices(filling: Filling, op: Any, resolved: ResolvedOp[Any], shape: tuple[int, ...]) -> Array:
    """Return indices for MaxUnpool that name different positions of each plane, or all of its positions in turn.

    The positions of a plane are in the order of their words, and its values take the first ones.
    """
    batch, spatial, channels = split_layer_shape("input", shape, op.data_format)
    sizes = resolved.windows.sizes
    values, positions = math.prod(spatial), math.prod(sizes)
    drawn = filling.words("indices", batch * channels * positions).reshape(batch * channels, positions)
    order = np.argsort(drawn, axis=1, kind="stable")
    in_plane = order[:, np.arange(values) % positions].reshape(batch, channels, *spatial)
    if op.data_format == "channels_last":
        in_plane = np.moveaxis(in_plane, 1, -1)
    counted = ElementIndices(batch, sizes, channels, op.data_format, op.index_scheme, op.storage_order)
    return counted.encode(np.ascontiguousarray(in_plane, dtype=np.int64))
