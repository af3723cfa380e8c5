"""How far a correctly computed result may be from the exact one: by how much the order of a sum and rounding change it.

A sum of ``n`` terms that is computed in a type with unit roundoff ``u`` differs from the exact one by at most
``n * u / (1 - n * u)`` times the sum of the absolute values of its terms, whatever the order (Higham, Accuracy and
Stability of Numerical Algorithms, section 4.2); as rounding errors are mostly independent, by not much more than the
root of ``n`` in place of ``n``. Then the sum is rounded to the type that it is stored in.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from cnn_core import AvgPool, Fold, LpPool, MaxPool, MaxUnpool, Unfold
from cnn_core.geometry import AnyWindows, Axis, AxisWindows, Windows
from cnn_core.ops.base import Op, ResolvedOp
from cnn_core.ops.conv_base import DifferentiableConvolution
from cnn_core.ops.conv_transpose import ConvTranspose

from ..codecs.message import BFLOAT16

__all__ = ["Tolerance", "is_floating", "magnitudes", "term_counts"]

FLOAT64 = np.dtype(np.float64)
Array = NDArray[Any]
Tensors = Mapping[str, Array]

RANDOM_WALK = 8
"""How many times the root of ``n`` roundings a sum may be off: far beyond what independent roundings lead to."""

POWER_ROUNDINGS = 16
"""Roundings that the powers and the root of a norm count as."""


def is_floating(dtype: np.dtype[Any]) -> bool:
    """Return whether a type is one of floating numbers."""
    return dtype.kind == "f" or dtype == BFLOAT16


def _limits(dtype: np.dtype[Any]) -> Any:
    finfo: Any = ml_dtypes.finfo  # NumPy's, which also knows bfloat16
    return finfo(dtype)


@dataclass(frozen=True)
class Tolerance:
    """What a result may differ by from the exact one.

    Parameters
    ----------
    terms : int
        The terms of the longest sum; 0 for what is copied, compared or counted, and must be exact.
    accumulation : dtype
        The floating type that the sums are computed in.
    storage : dtype
        The type that the results are stored in.
    """

    terms: int
    accumulation: np.dtype[Any]
    storage: np.dtype[Any]

    @classmethod
    def of(cls, terms: int, storage: np.dtype[Any], accumulation: np.dtype[Any] | None = None) -> Tolerance:
        """Return the tolerance of results of a type; those that are no floating numbers are sums in float64."""
        if accumulation is None:
            is_half = storage in (BFLOAT16, np.dtype(np.float16))
            accumulation = np.dtype(np.float32) if is_half else storage if is_floating(storage) else FLOAT64
        return cls(terms, accumulation, storage)

    @property
    def unit_roundoff(self) -> float:
        """Half the distance from 1 to the next number of the type that sums are computed in."""
        return float(_limits(self.accumulation).eps) / 2

    @property
    def relative_to_terms(self) -> float:
        """What a sum may be off by, for each unit of the sum of the absolute values of its terms."""
        return self.unit_roundoff * min(2 * self.terms, RANDOM_WALK * math.sqrt(self.terms))

    def bounds(self, exact: Array, magnitude: Array | None) -> Array | float:
        """Return what each element may be off by.

        Parameters
        ----------
        exact : ndarray of float64
            The exact results.
        magnitude : ndarray of float64, optional
            For each result the sum of the absolute values of its terms.
        """
        if self.terms == 0 or magnitude is None or not is_floating(self.storage):
            return 0.0
        storage = _limits(self.storage)
        with np.errstate(all="ignore"):
            bounds: Array = np.asarray(np.abs(exact))  # also without axes
            bounds *= float(storage.eps) / 2
            bounds += self.relative_to_terms * magnitude
            bounds += float(storage.smallest_subnormal)
        return np.nan_to_num(bounds, copy=False, nan=0.0, posinf=0.0)

    @property
    def reason(self) -> str:
        """Where the tolerance comes from, in a sentence."""
        if self.terms == 0 or not is_floating(self.storage):
            return "Nothing is rounded here, so each element must be exact."
        summed = (
            f"a sum of up to {self.terms} terms in {self.accumulation.name}, whatever its order"
            if self.terms > 1
            else f"one operation in {self.accumulation.name}"
        )
        return (
            f"What {summed}, may be off by: unit roundoff {self.unit_roundoff:.3g} times min(2 n, "
            f"{RANDOM_WALK} sqrt(n)) times the sum of the absolute values of its terms; and one rounding to "
            f"{self.storage.name}."
        )


def term_counts(op: Op, resolved: ResolvedOp[Any], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Return how many terms the longest sum of each result and gradient has; 0 where nothing is rounded.

    Parameters
    ----------
    op : Op
    resolved : ResolvedOp
        The op for operands of these shapes.
    shapes : mapping of str to shape
        Of the operands, by name.
    """
    windows: AnyWindows = resolved.windows
    taps = math.prod(-(-axis.tap_count // max(1, axis.output_size)) for axis in windows.axes)
    covering = math.prod(map(_windows_of_element, windows.axes))
    if isinstance(op, DifferentiableConvolution):
        return _of_convolution(op, resolved, shapes, taps)
    if isinstance(op, MaxPool):
        return {"output": 0, "indices": 0, "grad_input": covering + 1}
    if isinstance(op, AvgPool):
        return {"output": taps + 1, "grad_input": covering + 1}
    if isinstance(op, LpPool):
        return {"output": taps + POWER_ROUNDINGS, "grad_input": covering + 2 * POWER_ROUNDINGS}
    if isinstance(op, Unfold):
        return {"output": 0, "grad_input": taps}
    if isinstance(op, Fold):
        return {"output": taps, "grad_input": 0}
    return {"output": 0, "grad_input": 0}


def _windows_of_element(axis: Axis) -> int:
    """Return how many windows an element is in, at most; an adaptive pooling may have more windows than elements."""
    return axis.kernel_size if isinstance(axis, AxisWindows) else -(-axis.tap_count // axis.size) + 1


def _of_convolution(
    op: DifferentiableConvolution, resolved: ResolvedOp[Any], shapes: Mapping[str, tuple[int, ...]], taps: int
) -> dict[str, int]:
    windows: Windows = resolved.windows
    batch = max(1, shapes["input"][0])
    first = op.data_format == "channels_first"
    weight = shapes["weight"]
    features, group_channels = (weight[0], weight[1]) if first else (weight[-1], weight[-2])
    by_channel, by_feature = taps * group_channels, taps * (features // op.groups)
    if isinstance(op, ConvTranspose):
        forward, backward, positions = by_feature, by_channel, math.prod(windows.sizes)
    else:
        forward, backward, positions = by_channel, by_feature, math.prod(windows.output_sizes)
    return {
        "output": forward + 1,  # and the bias
        "grad_input": backward,
        "grad_weight": batch * math.prod(windows.output_sizes),
        "grad_bias": batch * positions,
    }


def magnitudes(op: Op, operands: Tensors, names: tuple[str, ...]) -> dict[str, Array]:
    """Return for each result and gradient, by name, the sum of the absolute values of the terms of each element.

    Parameters
    ----------
    op : Op
    operands : mapping of str to ndarray
        The operands of forward, and ``grad_output`` where a gradient is asked for.
    names : tuple of str
        The results and gradients. Those that are sums are returned, and no others.

    Notes
    -----
    They are what the op computes from the absolute values of its operands; NaN and infinities count as 0. The largest
    element of a window stays the largest, so max pooling gets its input as it is.
    """
    keeps_input = isinstance(op, MaxPool)
    absolute = {
        operand.name: value
        if (value := operands.get(operand.name)) is None or operand.dtypes or keeps_input
        else _absolute(value)
        for operand in op.operands
    }
    arguments = [absolute[operand.name] for operand in op.operands]
    computing = _without_signs(op)
    found: dict[str, Array] = {}
    if "output" in names and not isinstance(op, (MaxPool, MaxUnpool, Unfold)) and op.differentiable:
        found["output"] = computing.forward(*arguments)
    wrt = tuple(name.removeprefix("grad_") for name in names if name.startswith("grad_"))
    if wrt:
        options = {"wrt": wrt} if len(op.differentiable) > 1 else {}
        gradients = computing.backward(_absolute(operands["grad_output"]), *arguments, **options)
        if isinstance(gradients, np.ndarray):
            found["grad_input"] = gradients
        else:
            found |= {name: value for name, value in gradients._asdict().items() if value is not None}
    return found


def _absolute(value: Array) -> Array:
    return np.nan_to_num(np.abs(value.astype(np.float64)), copy=False, nan=0.0, posinf=0.0)


def _without_signs(op: Op) -> Any:
    """Return an op whose sums have no negative terms if its operands have none."""
    if isinstance(op, AvgPool) and op.divisor_override is not None:
        return dataclasses.replace(op, divisor_override=abs(op.divisor_override))
    return op
