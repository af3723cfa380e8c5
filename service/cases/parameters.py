"""Drawing of a layer's parameters: what a request gives, and for what it leaves open, the candidates written here.

``docs/golden-cases.md`` has the same rules in words, for whoever draws the same layers in another language.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Mapping
from typing import Any

from cnn_core import Fold, MaxUnpool, ParameterError
from cnn_core.ops.base import Op
from cnn_core.ops.conv_base import DifferentiableConvolution
from cnn_core.ops.pool_base import Pool

from ..operations.operation import CatalogueEntry
from ..problems import Finding
from .streams import Draws
from .unfit import Unfit

__all__ = ["ANY", "Choices", "Open", "draw_op", "draw_rank", "exact_sums", "open_choices"]


class Open(enum.Enum):
    """A parameter that is drawn from all that is valid."""

    ANY = "any"


ANY = Open.ANY
Choices = Mapping[str, tuple[Any, ...] | Open]
"""For each parameter that a request names: the values that it may have, in canonical form; None is "not given"."""

Rule = Callable[[Draws, int], Any]
"""Draws a value for so many spatial axes; None is "not given"."""

RANKS = (1, 2, 3)
STRIDES, DILATIONS, PADS, KERNEL_SIZES = (1, 1, 2, 3), (1, 1, 2, 3), (0, 1, 1, 2), (1, 2, 2, 3, 3, 4)
FORMS_OF_PADDING = ("valid", "same", "same_lower", "number", "axes", "sides", "sides")
LARGEST_FOLDED = {1: 12, 2: 8, 3: 5}
"""Size of an axis of Fold's output, by the number of spatial axes."""


def _one_of(*candidates: Any) -> Rule:
    return lambda draws, _: draws.choose(candidates)


def _each_of(candidates: tuple[Any, ...]) -> Rule:
    """Draw one value for each spatial axis."""
    return lambda draws, rank: tuple(draws.choose(candidates) for _ in range(rank))


def _stride_if_given(draws: Draws, rank: int) -> Any:
    return _each_of(STRIDES)(draws, rank) if draws.choose((True, False)) else None


def _padding(draws: Draws, rank: int) -> Any:
    form = draws.choose(FORMS_OF_PADDING)
    if form == "number":
        return draws.choose(PADS)
    if form == "axes":
        return _each_of(PADS)(draws, rank)
    if form == "sides":
        return tuple((draws.choose(PADS), draws.choose(PADS)) for _ in range(rank))
    return form


def _output_padding(draws: Draws, rank: int) -> Any:
    form = draws.choose(("none", "none", "to_stride", "axes"))
    if form == "axes":
        return _each_of((0, 1))(draws, rank)
    return form if form == "to_stride" else None


def _folded_sizes(draws: Draws, rank: int) -> Any:
    return tuple(draws.between(2, LARGEST_FOLDED[rank]) for _ in range(rank))


RULES: dict[str, Rule] = {
    "data_format": _one_of("channels_last", "channels_first"),
    "stride": _each_of(STRIDES),
    "padding": _padding,
    "dilation": _each_of(DILATIONS),
    "groups": _one_of(1, 1, 2, 3),
    "padding_mode": _one_of("zeros", "zeros", "reflect", "replicate", "circular"),
    "kernel_size": _each_of(KERNEL_SIZES),
    "ceil_mode": _one_of(False, True),
    "count_include_pad": _one_of(False, True),
    "divisor_override": _one_of(None, None, 2, 3, 5),
    "ties": _one_of("first", "all", "split", "tensorflow"),
    "return_indices": _one_of(False, True),
    "index_scheme": _one_of("plane", "image", "tensor"),
    "storage_order": _one_of("row_major", "column_major"),
    "norm_type": _one_of(1.0, 2.0),  # other norms need powers, whose last bit is not the same everywhere
    "output_padding": _output_padding,
}
"""How a parameter is drawn that may be anything. One without a rule is not given: framework, algorithm, and the
output_size of what undoes a pooling or a convolution."""

RULES_OF_OPS: tuple[tuple[Any, dict[str, Rule]], ...] = (
    (Pool, {"stride": _stride_if_given, "output_size": _each_of((1, 2, 3, 4))}),
    (MaxUnpool, {"stride": _stride_if_given, "padding": _one_of(0, 0, 0, 1)}),
    (Fold, {"output_size": _folded_sizes}),
)
"""Rules that some ops have of their own."""

WINDOWS = ("kernel_size", "kernel_size", "kernel_size", "output_size")
NOT_WITH_OUTPUT_SIZE = frozenset(
    {"kernel_size", "stride", "padding", "dilation", "ceil_mode", "count_include_pad", "divisor_override"}
)
"""What decides over the windows of a pooling, and what is not drawn for one whose number of windows is given."""

OF_A_PORT = frozenset({"data_format", "framework", "algorithm", "spatial_axes"})
"""Parameters that are not drawn where all may be anything: a port has one layout, and ranks are drawn anyway."""


def open_choices(entry: CatalogueEntry) -> dict[str, tuple[Any, ...] | Open]:
    """Return the choices of a request that leaves all parameters of a layer open."""
    names = dict.fromkeys(field.name for op in entry.ops.values() for field in op.parameters())
    return {name: ANY for name in (*([entry.selector] if entry.selector else []), *names) if name not in OF_A_PORT}


def draw_rank(draws: Draws, choices: Choices, ranks: Collection[int]) -> int:
    """Draw the number of spatial axes, of those that the shapes and every parameter allow.

    Raises
    ------
    Unfit
        If there is none.
    """

    def allows(name: str, rank: int) -> bool:
        values = choices[name]
        return isinstance(values, Open) or any(_fits(name, value, rank) for value in values)

    fitting = [rank for rank in RANKS if rank in ranks and all(allows(name, rank) for name in choices)]
    if not fitting:
        raise Unfit(
            Finding.of(
                "",
                "the parameters and shapes do not agree on the number of spatial axes",
                got="lists of other lengths",
                expected="one entry for each of 1, 2 or 3 spatial axes",
                hint="a list is a set of values to draw from: a stride for two axes is [[2, 1]]",
            )
        )
    return draws.choose(fitting)


def _fits(name: str, value: Any, rank: int) -> bool:
    """Return whether a value is one for so many spatial axes."""
    if name == "spatial_axes":
        return value in (None, rank)
    return not isinstance(value, tuple) or len(value) in (1, rank)


def draw_op(draws: Draws, entry: CatalogueEntry, choices: Choices, rank: int) -> Op:
    """Draw the parameters that a request leaves open, the selecting one first, the others in the order of their op.

    Raises
    ------
    Unfit
        If they do not go together.
    """
    op = _draw_kind(draws, entry, choices)
    rules = RULES | next((own for base, own in RULES_OF_OPS if issubclass(op, base)), {})
    left_out = _draw_left_out(draws, choices) if issubclass(op, Pool) else frozenset()
    values = exact_sums(op)
    for field in op.parameters():
        name, candidates = field.name, choices.get(field.name, ())
        if isinstance(candidates, Open):
            value = rules[name](draws, rank) if name in rules and name not in left_out else None
        else:
            fitting = [value for value in candidates if _fits(name, value, rank)]
            value = draws.choose(fitting) if fitting else None
        if value is not None:
            values[name] = value
    try:
        return op(**values)
    except ParameterError as error:
        raise Unfit.because(entry, error) from None


def exact_sums(op: type[Op]) -> dict[str, Any]:
    """Return the parameter with which an op adds the products themselves, where it has another way."""
    return {"algorithm": "direct"} if issubclass(op, DifferentiableConvolution) else {}


def _draw_kind(draws: Draws, entry: CatalogueEntry, choices: Choices) -> type[Op]:
    if not entry.selector:
        return entry.ops[""]
    candidates = choices[entry.selector]
    return entry.ops[draws.choose(tuple(entry.ops) if isinstance(candidates, Open) else candidates)]


def _draw_left_out(draws: Draws, choices: Choices) -> frozenset[str]:
    """Return which parameters of a pooling, of those that may be anything, are not given."""
    kernel_size, output_size = choices.get("kernel_size"), choices.get("output_size")
    if output_size is ANY and kernel_size is ANY:
        by = draws.choose(WINDOWS)
    else:
        by = "output_size" if output_size is not None and kernel_size in (None, ANY) else "kernel_size"
    return NOT_WITH_OUTPUT_SIZE if by == "output_size" else frozenset({"output_size"})
