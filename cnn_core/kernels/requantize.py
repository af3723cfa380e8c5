"""Integer sums in the units of 8-bit results: the nearest integers, as exact fractions have them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.blocks import blocks
from .passes import checked

__all__ = ["requantized"]

Array = NDArray[Any]

MAX_SCALED = 256
"""A scaled sum beyond this saturates, whatever the zero point."""

MAX_ERROR = 2.0**-42
"""Upper bound of the error of a scaled sum, which is rounded three times and at most MAX_SCALED."""

SIGNIFICAND_BITS = 53
"""Bits of a float64's significand."""

BYTES_PER_ELEMENT = 512
"""Approximate workspace for each element of a block, if all are compared as integers of any length."""


def requantized(sums: Array, input_scale: Array, weight_scale: Array, output_scale: Array, zero_point: Array) -> Array:
    """Return ``saturate(round(sums * input_scale * weight_scale / output_scale) + zero_point)``, ties to even.

    Parameters
    ----------
    sums : ndarray of int32, shape (..., F)
    input_scale, output_scale : ndarray of a floating type, shape () or (1,)
    weight_scale : ndarray of a floating type, shape (), (1,) or (F,)
    zero_point : ndarray of int8 or uint8, shape () or (1,)

    Returns
    -------
    ndarray of zero_point's type, shape of sums

    Notes
    -----
    Products in float64 tell how an element rounds, unless they are next to half-way between two integers. Those are
    compared with half-way as integers of any length, in some tenths of a microsecond each.
    """
    # a product of the scales alone may exceed the range
    scales = [np.frexp(scale.reshape(-1).astype(np.float64)) for scale in (input_scale, weight_scale, output_scale)]
    fractions, exponents = zip(*scales, strict=True)
    exponent = exponents[0] + exponents[1] - exponents[2]
    multiplier = np.ldexp(fractions[0] * fractions[1] / fractions[2], exponent)
    # whatever is beyond the range saturates all but 0
    multiplier = multiplier.clip(max=np.finfo(np.float64).max)

    rows = sums.reshape(-1, sums.shape[-1])
    multiplier, weight_fraction, exponent = (
        np.broadcast_to(one, rows.shape[1:]) for one in (multiplier, fractions[1], exponent)
    )
    limits = np.iinfo(zero_point.dtype)
    output = np.empty(rows.shape, dtype=zero_point.dtype)
    for block in checked(blocks(rows.shape, BYTES_PER_ELEMENT)):
        scaled = rows[block] * multiplier[block[1]]
        np.clip(scaled, -MAX_SCALED, MAX_SCALED, out=scaled)
        rounded = np.rint(scaled)
        doubtful = np.abs(scaled - rounded) > 0.5 - MAX_ERROR
        if doubtful.any():
            channels = np.nonzero(doubtful)[1] + block[1].start
            rounded[doubtful] = _rounded(
                rows[block][doubtful],
                np.floor(scaled[doubtful]),
                (fractions[0], weight_fraction[channels], fractions[2]),
                exponent[channels],
            )
        rounded += zero_point.reshape(-1)
        np.clip(rounded, limits.min, limits.max, out=rounded)
        output[block] = rounded
    return output.reshape(sums.shape)


def _rounded(sums: Array, lower: Array, fractions: tuple[Array, Array, Array], exponent: Array) -> Array:
    """Return the integer next to ``sums * fractions[0] * fractions[1] / fractions[2] * 2**exponent``, ties to even.

    It is ``lower`` or one more. A multiplier that takes a sum there is far less than 2**SIGNIFICAND_BITS.
    """
    factors = [np.ldexp(fraction, SIGNIFICAND_BITS).astype(np.int64).astype(object) for fraction in fractions]
    twice = 2 * sums.astype(object) * factors[0] * factors[1]
    halfway = (2 * lower.astype(np.int64) + 1).astype(object) * factors[2] << (SIGNIFICAND_BITS - exponent).astype(
        object
    )
    nearest: Array = lower + np.where(lower % 2 == 1, twice >= halfway, twice > halfway)
    return nearest
