"""The base of every op: a frozen dataclass of parameters with a shape rule, a forward and a backward computation."""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, ParamSpec, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..geometry import AnyWindows
from ..kernels.cost import Costs
from ..operands import ACTIVATIONS, Layout, accumulation_dtype, as_operand, common_dtype, require_shape
from ..parameters import DataFormat, Direction, Framework, TakenAlgorithm, canonical_fields, optional, parameter
from ..runtime.blas import one_blas_thread
from .rules import DATA_FORMAT, FRAMEWORK, SPATIAL_AXES

__all__ = ["INPUT", "ONE_VALUE", "Op", "Operand", "ResolvedOp", "computation"]

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")
WindowsType = TypeVar("WindowsType", bound=AnyWindows)


@dataclass(frozen=True)
class Operand:
    """A tensor that an op takes.

    Parameters
    ----------
    name, description : str
    layout : Layout
        Its axes. Where it may be one value as well, that has none.
    optional : bool
    dtypes : tuple of str
        The types that it may have; empty if it takes part in the op's common floating type.
    type_of : str
        The operand whose type it must have, if any.
    """

    name: str
    description: str
    layout: Layout
    optional: bool = False
    dtypes: tuple[str, ...] = ()
    type_of: str = ""


ONE_VALUE = Layout((), ())
INPUT = Operand("input", f"Activations: {ACTIVATIONS}.", ACTIVATIONS)


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
        Returns the Costs. Only limits need them, so they are computed on demand.
    algorithm : callable, optional
        Where an op has several algorithms: returns the one for an itemsize of the sums and a direction.
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

    A subclass is a frozen dataclass. Its fields, declared with ``parameter``, are checked when it is created; its class
    attributes say what it computes, which operands it takes, which of them have gradients, what its results are called,
    how its output is laid out and which defaults other frameworks have; it defines ``resolve``, ``forward`` and, if it
    has gradients, ``backward``.

    A framework's defaults are taken when the op is created, and only for parameters that are omitted or None. An
    existing op has every parameter set, so ``dataclasses.replace(op, framework="torch")`` changes nothing else.
    """

    description: ClassVar[str]
    """What the op computes, in Markdown: a sentence, then a paragraph with the formula."""
    operands: ClassVar[tuple[Operand, ...]]
    differentiable: ClassVar[tuple[str, ...]]
    results: ClassVar[tuple[str, ...]] = ("output",)
    output_layout: ClassVar[Layout] = ACTIVATIONS
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
        optional(FRAMEWORK), "Use that framework's defaults for every parameter you omit.", None
    )
    spatial_axes: int | None = parameter(
        optional(SPATIAL_AXES),
        "Number of spatial axes. If given, an operand of any other rank is rejected, which catches a missing batch "
        "axis.",
        None,
    )

    def __new__(cls, *_: Any, **given: Any) -> Self:
        """Note which parameters are given, for ``__post_init__``."""
        op = super().__new__(cls)
        if given:  # copy and pickle give none, and set the fields themselves
            object.__setattr__(op, "_given", given)
        return op

    def __post_init__(self) -> None:
        given = vars(self).pop("_given", {})
        # None means "not given" where it is the default; but dataclasses.replace gives all fields, and there None is a
        # value
        if len(given) < len(dataclasses.fields(self)):
            given = {
                name: value
                for name, value in given.items()
                if value is not None or getattr(type(self), name, None) is not None
            }
        framework = optional(FRAMEWORK).check("framework", self.framework)
        if framework is not None:
            for name, value in self._defaults_for(given, framework).items():
                if name not in given:
                    object.__setattr__(self, name, value)
        canonical_fields(self)

    def _defaults_for(self, given: Mapping[str, Any], framework: Framework) -> Mapping[str, Any]:  # noqa: ARG002
        """Return the defaults of a framework where they are not those of the fields, for an op with what is given."""
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
        """Resolve the op for operands of these shapes; allocates nothing.

        Parameters
        ----------
        *shapes : sequence of int
            Shapes of the operands of ``forward`` in their order; None for an optional one that is left out.

        Returns
        -------
        ResolvedOp

        Raises
        ------
        ParameterError, ShapeError
            If the shapes do not fit each other or the parameters.
        """

    def _arrays(self, *values: ArrayLike | None) -> list[NDArray[Any]]:
        """Return the operands as arrays of the types that they are declared with; None for what is left out."""
        arrays: dict[str, Any] = {}
        for operand, value in zip(self.operands, values, strict=True):
            dtypes = (arrays[operand.type_of].dtype.name,) if operand.type_of else operand.dtypes
            is_left_out = value is None and operand.optional
            arrays[operand.name] = None if is_left_out else as_operand(operand.name, value, dtypes)
        return list(arrays.values())

    def _resolved(self, *operands: NDArray[Any] | None) -> Any:
        """Return the op resolved for operands, from a cache: a model uses the same shapes over and over."""
        return _cached_resolve(self, tuple([None if operand is None else operand.shape for operand in operands]))

    def cached_resolve(self, *shapes: tuple[int, ...] | None) -> ResolvedOp[Any]:
        """Resolve the op as ``resolve`` does, from a cache; shapes are tuples."""
        return _cached_resolve(self, shapes)

    def output_shape(self, *shapes: Any) -> tuple[int, ...]:
        """Return the shape of the output for operands of these shapes, as ``resolve`` takes them."""
        return self.resolve(*shapes).output_shape

    def resolved_parameters(
        self, resolved: ResolvedOp[Any], itemsize: int = 8, direction: Direction = "forward"
    ) -> dict[str, Any]:
        """Return every parameter that has a value, as resolved: strides for each axis, padding for each side.

        Parameters
        ----------
        resolved : ResolvedOp
            What ``resolve`` returned.
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
        """Return the names of what ``forward`` returns with these parameters; ``results`` has all possible ones."""
        return self.results

    def result_dtypes(self, dtypes: Mapping[str, np.dtype[Any]]) -> dict[str, np.dtype[Any]]:
        """Return the type of each result of forward for operands of these types, by name."""
        return dict.fromkeys(self.result_names(), self.gradient_dtype(dtypes))

    def gradient_dtype(self, dtypes: Mapping[str, np.dtype[Any]]) -> np.dtype[Any]:
        """Return the type of the gradients for operands of these types, by name."""
        typed = {operand.name for operand in self.operands if operand.dtypes}
        return common_dtype(*(dtype for name, dtype in dtypes.items() if name not in typed))

    def computation_dtype(self, dtypes: Mapping[str, np.dtype[Any]]) -> np.dtype[Any]:
        """Return the type that is computed in for operands of these types, by name."""
        return accumulation_dtype(self.gradient_dtype(dtypes))

    def _checked_gradient(self, grad_output: ArrayLike, resolved: ResolvedOp[Any]) -> NDArray[Any]:
        """Return grad_output as an array of the output's shape."""
        gradient = as_operand("grad_output", grad_output)
        require_shape("grad_output", gradient.shape, resolved.output_shape, "that of the output of forward")
        return gradient

    @classmethod
    def parameters(cls) -> tuple[dataclasses.Field[Any], ...]:
        """Return the declarations of the op's parameters."""
        return dataclasses.fields(cls)


MAX_CACHED_OPS = 256


@functools.lru_cache(maxsize=MAX_CACHED_OPS)
def _cached_resolve(op: Op, shapes: tuple[tuple[int, ...] | None, ...]) -> ResolvedOp[Any]:
    return op.resolve(*shapes)


def computation(function: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
    """Let infinities and NaNs propagate without NumPy's warnings, and keep BLAS to one thread."""

    @functools.wraps(function)
    def wrapped(*arguments: Arguments.args, **options: Arguments.kwargs) -> Returned:
        with np.errstate(all="ignore"), one_blas_thread:
            return function(*arguments, **options)

    return wrapped
