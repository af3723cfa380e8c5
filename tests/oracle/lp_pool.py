"""Lp pooling as plain loops in decimal arithmetic of 30 digits, whose exponents no float and no power exceeds.

Written from the rules alone (rule 14): (sum of |x|^p)^(1/p) over the valid taps, with the gradient
g * sign(x) * (|x| / y)^(p - 1), which is 0 where the whole window is 0. Kernel and adaptive windows alike.
"""

from __future__ import annotations

import decimal
import itertools
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from tests.oracle.adaptive import check_gradient, pool_windows
from tests.oracle.windows import AnyArray, Array, Index, OracleError, from_channels_last, to_channels_last


def many_digits() -> Any:
    """The arithmetic of this module."""
    return decimal.localcontext(prec=30, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)


def powers(activations: Array, exponent: Decimal) -> dict[Index, Decimal]:
    """|x|^exponent of every finite element; 0^0 is 1 here, as the sign of a 0 makes it count for nothing."""
    result: dict[Index, Decimal] = {}
    for at in np.ndindex(activations.shape):
        magnitude = Decimal(abs(float(activations[at])))
        if magnitude.is_finite():
            result[at] = Decimal(1) if exponent == 0 else magnitude**exponent
    return result


def norm_of_powers(terms: Sequence[Decimal], norm_type: Decimal) -> Decimal:
    """(sum of the |x|^p)^(1/p); that of nothing is 0."""
    total = sum(terms, Decimal(0))
    return total ** (1 / norm_type) if total else total


def lp_pool_forward(
    input: AnyArray, *, norm_type: float = 2, data_format: str = "channels_last", **windows: Any
) -> Array:
    """The norm of every window's valid taps: NaN with a NaN among them, else infinite with an infinity."""
    activations = to_channels_last(input, data_format)
    table = pool_windows(activations.shape[1:-1], **windows)
    images, channels = activations.shape[0], activations.shape[-1]
    output = np.zeros((images, *table.output, channels))
    with many_digits():
        exponent = Decimal(norm_type)
        power_of = powers(activations, exponent)
        for position, elements in table.elements.items():
            for image, channel in itertools.product(range(images), range(channels)):
                taps = [(image, *at, channel) for at in elements]
                values = [float(activations[at]) for at in taps]
                if any(math.isnan(value) for value in values):
                    norm = math.nan
                elif any(math.isinf(value) for value in values):
                    norm = math.inf
                else:
                    norm = float(norm_of_powers([power_of[at] for at in taps], exponent))
                output[(image, *position, channel)] = norm
    return from_channels_last(output, data_format)


def lp_pool_backward(
    grad_output: AnyArray,
    input: AnyArray,
    *,
    norm_type: float = 2,
    data_format: str = "channels_last",
    **windows: Any,
) -> Array:
    """The gradient for finite inputs; the rules leave open what an infinity has."""
    activations = to_channels_last(input, data_format)
    if not np.isfinite(activations).all():
        raise OracleError("no gradient of what is not finite")
    table = pool_windows(activations.shape[1:-1], **windows)
    gradient = to_channels_last(grad_output, data_format)
    check_gradient(gradient, activations, table)
    grad_input = np.zeros(activations.shape)
    with many_digits():
        exponent = Decimal(norm_type)
        power_of, lower_power_of = powers(activations, exponent), powers(activations, exponent - 1)
        for position, elements in table.elements.items():
            for image, channel in itertools.product(range(activations.shape[0]), range(activations.shape[-1])):
                taps = [(image, *at, channel) for at in elements]
                norm = norm_of_powers([power_of[at] for at in taps], exponent)
                if norm == 0:
                    continue  # the subgradient 0 of an all-zero window
                arriving = float(gradient[(image, *position, channel)])
                divisor = norm ** (exponent - 1)
                for at in taps:
                    value = float(activations[at])
                    sign = (value > 0) - (value < 0)
                    grad_input[at] += arriving * float(sign * lower_power_of[at] / divisor)
    return from_channels_last(grad_input, data_format)
