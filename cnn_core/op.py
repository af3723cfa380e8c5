"""What every op is: a frozen dataclass of parameters with a shape rule, a forward and a backward computation."""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, ParamSpec, TypeVar

import numpy as np

from cnn_core.compute.cost import Costs
from cnn_core.geometry import Windows
from cnn_core.operands import common_dtype
from cnn_core.parameters import DATA_FORMAT, DataFormat, canonical_fields, parameter

__all__ = ["Layer", "Op", "Operand", "without_floating_point_warnings"]

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")


@dataclass(frozen=True)
class Operand:
    """A tensor that an op takes: its name, what it is, and whether it may be left out."""

    name: str
    description: str
    optional: bool = False


@dataclass(frozen=True)
class Layer:
    """What an op does to operands of given shapes, known before any tensor exists.

    Parameters
    ----------
    output_shape : tuple of int
    gradient_shapes : dict
        Shape of the gradient of each differentiable operand.
    windows : Windows
        The windows over the spatial axes; ``windows.padding`` is the padding resolved per side.
    multiply_accumulates : int
        Multiplications with addition of a convolution; for pooling, the taps of all windows. Taps in the padding count.
    costs : callable
        Returns the Costs. They are for limits only, so that computing the layer does not wait for them.
    """

    output_shape: tuple[int, ...]
    gradient_shapes: dict[str, tuple[int, ...]]
    windows: Windows
    multiply_accumulates: int
    costs: Callable[[], Costs]


@dataclass(frozen=True)
class Op(ABC):
    """Base of all ops.

    A subclass is a frozen dataclass. Its fields, declared with ``parameter``, are checked when it is made; its class
    attributes say which operands it takes, which of them have gradients and what its results are called; it defines
    ``layer``, ``forward`` and ``backward``.
    """

    operands: ClassVar[tuple[Operand, ...]]
    differentiable: ClassVar[tuple[str, ...]]
    results: ClassVar[tuple[str, ...]] = ("output",)

    data_format: DataFormat = parameter(
        DATA_FORMAT,
        "Layout of the operands: channels_last is (N, *spatial, C), channels_first is (N, C, *spatial).",
        "channels_last",
    )

    def __post_init__(self) -> None:
        canonical_fields(self)

    @abstractmethod
    def layer(self, *shapes: Any) -> Layer:
        """Resolve the op for operands of these shapes; allocates nothing."""

    def output_shape(self, *shapes: Any) -> tuple[int, ...]:
        """Return the shape of the output for operands of these shapes; allocates nothing.

        Parameters
        ----------
        *shapes : sequence of int
            Shapes of the operands of ``forward`` in their order.

        Returns
        -------
        tuple of int

        Raises
        ------
        ParameterError, ShapeError
            As ``forward`` does for operands of these shapes.
        """
        return self.layer(*shapes).output_shape

    def result_names(self) -> tuple[str, ...]:
        """Return the names of what ``forward`` returns with these parameters; ``results`` names all there may be."""
        return self.results

    def result_dtype(self, *dtypes: np.dtype[Any]) -> np.dtype[Any]:
        """Return the type of the results for operands of these types."""
        return common_dtype(*dtypes)

    @classmethod
    def parameters(cls) -> tuple[dataclasses.Field[Any], ...]:
        """Return the declarations of the op's parameters."""
        return dataclasses.fields(cls)


def without_floating_point_warnings(function: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
    """Let infinities and NaNs pass as IEEE 754 has them, without NumPy's warnings."""

    @functools.wraps(function)
    def wrapped(*arguments: Arguments.args, **options: Arguments.kwargs) -> Returned:
        with np.errstate(all="ignore"):
            return function(*arguments, **options)

    return wrapped
