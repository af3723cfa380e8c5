"""What every op is: a frozen dataclass of parameters with a shape rule, a forward and a backward computation."""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, ParamSpec, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnn_core.errors import ConvpoolError, ShapeError
from cnn_core.geometry import AnyWindows
from cnn_core.kernels.cost import Costs
from cnn_core.operands import accumulation_dtype, as_operand, common_dtype, require_shape
from cnn_core.parameters import (
    DATA_FORMAT,
    FRAMEWORK,
    SPATIAL_AXES,
    DataFormat,
    Direction,
    Framework,
    TakenAlgorithm,
    canonical_fields,
    optional,
    parameter,
)
from cnn_core.runtime.blas import one_blas_thread

__all__ = ["Op", "Operand", "ResolvedOp", "computation", "suggest_layout"]

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")
WindowsType = TypeVar("WindowsType", bound=AnyWindows)


@dataclass(frozen=True)
class Operand:
    """A tensor that an op takes: its name, what it is, and whether it may be left out.

    Parameters
    ----------
    name, description : str
    optional : bool
    dtypes : tuple of str
        The types that it may have, where it has a type of its own. Empty where it shares in the floating type that the
        op computes in.
    type_of : str
        The operand whose type it must have.
    """

    name: str
    description: str
    optional: bool = False
    dtypes: tuple[str, ...] = ()
    type_of: str = ""


@dataclass(frozen=True)
class ResolvedOp(Generic[WindowsType]):
    """What an op does to operands of given shapes, known before any tensor exists.

    Parameters
    ----------
    result_shapes : dict
        Shape of each result of forward.
    gradient_shapes : dict
        Shape of the gradient of each differentiable operand.
    windows : AnyWindows
        The windows over the spatial axes; ``windows.padding`` is the padding resolved per side.
    multiply_accumulates : int
        Multiplications with addition of a convolution; for pooling, the taps of all windows; for an op that only moves
        elements, the elements moved. Taps in the padding count.
    costs : callable
        Returns the Costs. They are for limits only, so that computing the layer does not wait for them.
    algorithm : callable, optional
        Returns the algorithm that a direction takes for sums in a type of so many bytes, where an op has several.
    """

    result_shapes: Mapping[str, tuple[int, ...]]
    gradient_shapes: Mapping[str, tuple[int, ...]]
    windows: WindowsType
    multiply_accumulates: int
    costs: Callable[[], Costs]
    algorithm: Callable[[int, Direction], TakenAlgorithm] | None = None

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        return self.result_shapes["output"]


@dataclass(frozen=True)
class Op(ABC):
    """Base of all ops.

    A subclass is a frozen dataclass. Its fields, declared with ``parameter``, are checked when it is made; its class
    attributes say which operands it takes, which of them have gradients, what its results are called and which defaults
    other frameworks have; it defines ``layer``, ``forward`` and, if it has gradients, ``backward``.

    A framework's defaults are taken when the op is made, and only for what is not given or None. All parameters of an
    op that there is are given, None too: ``dataclasses.replace(op, framework="torch")`` changes nothing else.
    """

    operands: ClassVar[tuple[Operand, ...]]
    differentiable: ClassVar[tuple[str, ...]]
    results: ClassVar[tuple[str, ...]] = ("output",)
    framework_defaults: ClassVar[Mapping[Framework, Mapping[str, Any]]] = {
        "torch": {"data_format": "channels_first"},
        "onnx": {"data_format": "channels_first"},
    }
    """Defaults of each framework where they are not the fields' own; a subclass has those of its bases too."""

    data_format: DataFormat = parameter(
        DATA_FORMAT,
        "Layout of the operands: channels_last is (N, *spatial, C), channels_first is (N, C, *spatial).",
        "channels_last",
    )
    framework: Framework | None = parameter(
        optional(FRAMEWORK), "Framework whose own defaults are taken for all parameters that are not given.", None
    )

    spatial_axes: int | None = parameter(
        optional(SPATIAL_AXES),
        "How many axes are spatial; an operand with another number of axes is an error. If not given it follows from "
        "the input: state it, so that an image without its batch axis is noticed.",
        None,
    )

    def __new__(cls, *_: Any, **given: Any) -> Self:
        """Note which parameters are given; ``__post_init__`` looks at it and takes it away."""
        op = super().__new__(cls)
        if given:  # nothing is where a copy is made, whose fields are set without being given
            object.__setattr__(op, "_given", given)
        return op

    def __post_init__(self) -> None:
        given = vars(self).pop("_given", {})
        # None is what is written for a parameter that is not given, where it may be None; but where all are written, an
        # op is replaced, whose None is a value
        if len(given) < len(dataclasses.fields(self)):
            given = {
                name: value
                for name, value in given.items()
                if value is not None or getattr(type(self), name, None) is not None
            }
        framework = optional(FRAMEWORK).check("framework", self.framework)
        if framework is not None:
            for name, value in self._defaults_beside(given, framework).items():
                if name not in given:
                    object.__setattr__(self, name, value)
        canonical_fields(self)

    def _defaults_beside(self, given: Mapping[str, Any], framework: Framework) -> Mapping[str, Any]:  # noqa: ARG002
        """Return the defaults of a framework where they are not those of the fields, beside what is given."""
        return self.defaults_of(framework)

    @classmethod
    def defaults_of(cls, framework: Framework) -> dict[str, Any]:
        """Return the defaults of a framework where they are not those of the fields."""
        merged: dict[str, Any] = {}
        for base in reversed(cls.__mro__):
            merged |= vars(base).get("framework_defaults", {}).get(framework, {})
        return merged

    @abstractmethod
    def resolve(self, *shapes: Any) -> ResolvedOp[Any]:
        """Resolve the op for operands of these shapes; allocates nothing."""

    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        return self.result_shapes["output"]


@dataclass(frozen=True)
class Op(ABC):
    """Base of all ops.

    A subclass is a frozen dataclass. Its fields, declared with ``parameter``, are checked when it is made; its class
    attributes say which operands it takes, which of them have gradients, what its results are called and which defaults
    other frameworks have; it defines ``layer``, ``forward`` and, if it has gradients, ``backward``.

    A framework's defaults are taken when the op is made, and only for what is not given or None. All parameters of an
    op that there is are given, None too: ``dataclasses.replace(op, framework="torch")`` changes nothing else.
    """

    operands: ClassVar[tuple[Operand, ...]]
    differentiable: ClassVar[tuple[str, ...]]
    results: ClassVar[tuple[str, ...]] = ("output",)
    framework_defaults: ClassVar[Mapping[Framework, Mapping[str, Any]]] = {
        "torch": {"data_format": "channels_first"},
        "onnx": {"data_format": "channels_first"},
    }
    """Defaults of each framework where they are not the fields' own; a subclass has those of its bases too."""

    data_format: DataFormat = parameter(
        DATA_FORMAT,
        "Layout of the operands: channels_last is (N, *spatial, C), channels_first is (N, C, *spatial).",
        "channels_last",
    )
    framework: Framework | None = parameter(
        optional(FRAMEWORK), "Framework whose own defaults are taken for all parameters that are not given.", None
    )

    spatial_axes: int | None = parameter(
        optional(SPATIAL_AXES),
        "How many axes are spatial; an operand with another number of axes is an error. If not given it follows from "
        "the input: state it, so that an image without its batch axis is noticed.",
        None,
    )

    def __new__(cls, *_: Any, **given: Any) -> Self:
        """Note which parameters are given; ``__post_init__`` looks at it and takes it away."""
        op = super().__new__(cls)
        if given:  # nothing is where a copy is made, whose fields are set without being given
            object.__setattr__(op, "_given", given)
        return op

    def __post_init__(self) -> None:
        given = vars(self).pop("_given", {})
        # None is what is written for a parameter that is not given, where it may be None; but where all are written, an
        # op is replaced, whose None is a value
        if len(given) < len(dataclasses.fields(self)):
            given = {
                name: value
                for name, value in given.items()
                if value is not None or getattr(type(self), name, None) is not None
            }
        framework = optional(FRAMEWORK).check("framework", self.framework)
        if framework is not None:
            for name, value in self._defaults_beside(given, framework).items():
                if name not in given:
                    object.__setattr__(self, name, value)
        canonical_fields(self)

    def _defaults_beside(self, given: Mapping[str, Any], framework: Framework) -> Mapping[str, Any]:  # noqa: ARG002
        """Return the defaults of a framework where they are not those of the fields, beside what is given."""
        return self.defaults_of(framework)

    @classmethod
    def defaults_of(cls, framework: Framework) -> dict[str, Any]:
        """Return the defaults of a framework where they are not those of the fields."""
        merged: dict[str, Any] = {}
        for base in reversed(cls.__mro__):
            merged |= vars(base).get("framework_defaults", {}).get(framework, {})
        return merged

    @abstractmethod
    def resolve(self, *shapes: Any) -> ResolvedOp[Any]:
        """Resolve the op for operands of these shapes; allocates nothing."""

    def cached_resolve(self, *shapes: tuple[int, ...] | None) -> ResolvedOp[Any]:
        """Resolve the op as ``resolve`` does, and keep what it returns: a model calls the same layers over and over."""
        return _cached_resolve(self, shapes)

    def _resolved(self, *operands: NDArray[Any] | None) -> Any:
        """Return the op resolved for operands."""
        return self.cached_resolve(*(None if operand is None else operand.shape for operand in operands))

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
        return self.resolve(*shapes).output_shape

    def cached_resolve(self, *shapes: tuple[int, ...] | None) -> ResolvedOp[Any]:
        """Resolve the op as ``resolve`` does, and keep what it returns: a model calls the same layers over and over."""
        return _cached_resolve(self, shapes)

    def resolved_parameters(
        self, resolved: ResolvedOp[Any], itemsize: int = 8, direction: Direction = "forward"
    ) -> dict[str, Any]:
        """Return every parameter that has a value as it is in a layer: strides for each axis, padding for each side.

        Parameters
        ----------
        layer : Layer
            What ``layer`` returned.
        itemsize : int
            Bytes of an element of the type that is computed in, which the algorithm may depend on.
        direction : {"forward", "backward"}

        Returns
        -------
        dict of str to object
            By name; values that JSON can hold.
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values |= {name: value for name, value in resolved.windows.parameters().items() if name in values}
        values["spatial_axes"] = len(resolved.windows.axes)
        if resolved.algorithm is not None:
            values["algorithm"] = resolved.algorithm(itemsize, direction)
        return {name: value for name, value in values.items() if value is not None}

    def result_names(self) -> tuple[str, ...]:
        """Return the names of what ``forward`` returns with these parameters; ``results`` names all there may be."""
        return self.results

    def result_dtypes(self, dtypes: Mapping[str, np.dtype[Any]]) -> dict[str, np.dtype[Any]]:
        """Return the type of each result of forward for operands of these types, by name."""
        return dict.fromkeys(self.result_names(), self.gradient_dtype(dtypes))

    def gradient_dtype(self, dtypes: Mapping[str, np.dtype[Any]]) -> np.dtype[Any]:
        """Return the type of the gradients for operands of these types, by name."""
        apart = {operand.name for operand in self.operands if operand.dtypes}
        return common_dtype(*(dtype for name, dtype in dtypes.items() if name not in apart))

    def computation_dtype(self, dtypes: Mapping[str, np.dtype[Any]]) -> np.dtype[Any]:
        """Return the type that is computed in for operands of these types, by name."""
        return accumulation_dtype(self.gradient_dtype(dtypes))

    def _checked_gradient(self, grad_output: ArrayLike, resolved: ResolvedOp[Any]) -> NDArray[Any]:
        """Return grad_output as an array.

        Raises
        ------
        ShapeError, DtypeError
            If it has not the shape of a layer's output, or no type that is computed with.
        """
        gradient = as_operand("grad_output", grad_output)
        require_shape("grad_output", gradient.shape, resolved.output_shape, "the output of forward")
        return gradient

    @classmethod
    def parameters(cls) -> tuple[dataclasses.Field[Any], ...]:
        """Return the declarations of the op's parameters."""
        return dataclasses.fields(cls)


def suggest_layout(resolved: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
    """Let an error of an op's ``layer`` say so where the shapes fit the other layout."""

    @functools.wraps(resolved)
    def wrapped(*arguments: Arguments.args, **options: Arguments.kwargs) -> Returned:
        try:
            return resolved(*arguments, **options)
        except ShapeError as error:
            op: Any = arguments[0]
            other = "channels_first" if op.data_format == "channels_last" else "channels_last"
            try:
                resolved(dataclasses.replace(op, data_format=other), *arguments[1:], **options)  # type: ignore[arg-type]
            except ConvpoolError:
                raise error from None
            raise error.with_hint(f"the shapes fit data_format={other}") from None

    return wrapped


MAX_CACHED_OPS = 256


@functools.lru_cache(maxsize=MAX_CACHED_OPS)
def _cached_resolve(op: Op, shapes: tuple[tuple[int, ...] | None, ...]) -> ResolvedOp[Any]:
    return op.resolve(*shapes)


def computation(function: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
    """Let infinities and NaNs pass as IEEE 754 has them, without NumPy's warnings, and keep BLAS to one thread."""

    @functools.wraps(function)
    def wrapped(*arguments: Arguments.args, **options: Arguments.kwargs) -> Returned:
        with np.errstate(all="ignore"), one_blas_thread:
            return function(*arguments, **options)

    return wrapped
