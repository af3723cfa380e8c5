"""Hypothesis strategies for Lp pooling, adaptive windows and unpooling, in the manner of tests.strategies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.oracle.indices import inferred_sizes
from tests.oracle.windows import AnyArray, Array, OracleError, PerAxis
from tests.strategies import (
    PoolCase,
    _draw_data_format,
    _layout,
    _max_pool_values,
    _one_or_list,
    _pool_case,
    _random,
    _windows,
    batches,
    largest_size,
)

norm_types = st.sampled_from([None, 1, 2, 3, 1.5, 2.0, 20, 7.25])
schemes = st.sampled_from(["plane", "image", "tensor"])
orders = st.sampled_from(["row_major", "column_major"])


@dataclass(frozen=True, eq=False)
class UnpoolCase:
    """A valid call of unpooling; ``parameters`` is JSON-able."""

    parameters: dict[str, Any]
    input: Array
    indices: AnyArray
    grad_output: Array


# ----------------------------------------------------------------------------------------------------------- Lp pooling


def _lp_values(random: np.random.Generator, kind: str, shape: tuple[int, ...]) -> Array:
    """Values whose powers overflow or vanish although their norms do not, zeros, and plain ones."""
    normal = random.standard_normal(shape)
    if kind == "few":
        return np.asarray(random.choice([-2.0, -1.0, 0.0, 0.0, 0.0, 1.0], size=shape), dtype=np.float64)
    if kind == "every magnitude":
        return np.asarray(normal * 10.0 ** random.integers(-300, 300, size=shape), dtype=np.float64)
    if kind == "not finite":
        odd = random.choice([np.nan, np.inf, -np.inf, 1.0, 1.0, 1.0, 1.0, 1.0], size=shape)
        return np.asarray(normal * odd, dtype=np.float64)
    scale = {"normal": 1.0, "huge": 1e200, "tiny": 1e-200}[kind]
    return np.asarray(normal * scale, dtype=np.float64)


def _adaptive_shape(draw: st.DrawFn) -> tuple[list[int], PerAxis, list[int]]:
    """Spatial sizes, an output_size as a client writes it, and the same per axis."""
    rank = draw(st.integers(1, 3))
    sizes = [draw(st.integers(1, largest_size[rank])) for _ in range(rank)]
    largest_output = {1: 9, 2: 8, 3: 5}[rank]
    if draw(st.booleans()):
        output_size = draw(st.integers(1, largest_output))
        return sizes, output_size, [output_size] * rank
    # 1, the size itself, and any other one: larger than the input as well.
    each = [draw(st.one_of(st.just(1), st.just(size), st.integers(1, largest_output))) for size in sizes]
    return sizes, each, each


def _adaptive_case(draw: st.DrawFn, more: dict[str, Any]) -> PoolCase:
    sizes, output_size, output = _adaptive_shape(draw)
    parameters = {"output_size": output_size, **more}
    data_format = _draw_data_format(draw, parameters)
    batch, channels = draw(batches), draw(st.integers(1, 3))
    random = _random(draw)
    return PoolCase(
        parameters=parameters,
        input=random.standard_normal(_layout(data_format, batch, sizes, channels)),
        grad_output=random.standard_normal(_layout(data_format, batch, output, channels)),
    )


@st.composite
def lp_pool_cases(
    draw: st.DrawFn, *, finite: bool = False, kinds: tuple[str, ...] = (), adaptive: bool = True
) -> PoolCase:
    """Lp pooling with kernel or adaptive windows; a window may lie in the padding, where its norm is 0."""
    norm_type = draw(norm_types)
    more: dict[str, Any] = {} if norm_type is None else {"norm_type": norm_type}
    if adaptive and draw(st.integers(0, 3)) == 0:
        case = _adaptive_case(draw, more)
    else:
        windows = draw(_windows(padding_stays_below_extent=draw(st.booleans()), ceil_mode=draw(st.booleans())))
        case = _pool_case(draw, windows, more)
    every_kind = ["normal", "few", "huge", "tiny", "every magnitude", *([] if finite else ["not finite"])]
    kind = draw(st.sampled_from(kinds or every_kind))
    return PoolCase(case.parameters, _lp_values(_random(draw), kind, case.input.shape), case.grad_output)


@st.composite
def lp_pool_cases_away_from_zero(draw: st.DrawFn) -> PoolCase:
    """Values of both signs that are 0.5 or more away from 0, where a norm may have a kink."""
    case = draw(lp_pool_cases(kinds=("normal",)))
    return PoolCase(case.parameters, case.input + np.copysign(0.5, case.input), case.grad_output)


# ----------------------------------------------------------------------------------------------------- adaptive pooling


@st.composite
def adaptive_cases(draw: st.DrawFn) -> PoolCase:
    """Adaptive windows over normally distributed values, for every kind of pooling."""
    return _adaptive_case(draw, {})


@st.composite
def adaptive_max_pool_cases(draw: st.DrawFn, *, spaced: bool = False) -> PoolCase:
    """Adaptive max pooling with ties, NaN and infinities, or of values that are all 0.25 or more apart."""
    ties = draw(st.sampled_from([None, "first", "all", "split"]))
    case = _adaptive_case(draw, {} if ties is None else {"ties": ties})
    if spaced:
        ranks = _random(draw).permutation(case.input.size).reshape(case.input.shape)
        return PoolCase(case.parameters, 0.25 * (ranks - case.input.size // 2), case.grad_output)
    kinds = ["few", "few", "normal", "nan", "minus_infinity", "only_minus_infinity", "anything"]
    values = _max_pool_values(_random(draw), draw(st.sampled_from(kinds)), case.input.shape)
    return PoolCase(case.parameters, values, case.grad_output)


# ------------------------------------------------------------------------------------------------------------ unpooling


@st.composite
def unpool_cases(draw: st.DrawFn) -> UnpoolCase:
    """Unpooling by kernel_size or output_size, with indices that are all different or that repeat."""
    rank = draw(st.integers(1, 3))
    sizes = [draw(st.integers(1, 3 if rank < 3 else 2)) for _ in range(rank)]
    parameters: dict[str, Any] = {}
    if draw(st.booleans()):
        output = [draw(st.integers(1, 7 if rank < 3 else 4)) for _ in range(rank)]
        if draw(st.booleans()):
            output = [output[0]] * rank
        parameters["output_size"] = _one_or_list(output, draw(st.booleans()) and len(set(output)) == 1)
    else:
        output = draw(_inferred_output(sizes, parameters))
    data_format = _draw_data_format(draw, parameters)
    for name, choices in (("index_scheme", schemes), ("storage_order", orders)):
        choice = draw(st.one_of(st.none(), choices))
        if choice is not None:
            parameters[name] = choice
    batch, channels = draw(batches), draw(st.integers(1, 3))
    random = _random(draw)
    shape = _layout(data_format, batch, sizes, channels)
    within = {"plane": 1, "image": channels, "tensor": channels * batch}[parameters.get("index_scheme", "plane")]
    limit = int(np.prod(output)) * within
    count = int(np.prod(shape))
    repeat = draw(st.booleans()) or limit < count
    indices = random.integers(0, max(1, limit), count) if repeat else random.permutation(limit)[:count]
    return UnpoolCase(
        parameters=parameters,
        input=random.standard_normal(shape),
        indices=indices.astype(np.int64).reshape(shape),
        grad_output=random.standard_normal(_layout(data_format, batch, output, channels)),
    )


@st.composite
def _inferred_output(draw: st.DrawFn, sizes: list[int], parameters: dict[str, Any]) -> list[int]:
    """Draw a window into the parameters and return the sizes that follow from it."""
    kernel = [draw(st.integers(1, 3)) for _ in sizes]
    if draw(st.booleans()):
        kernel = [kernel[0]] * len(sizes)
    parameters["kernel_size"] = _one_or_list(kernel, len(set(kernel)) == 1)
    stride = draw(st.one_of(st.none(), st.integers(1, 3), st.just([draw(st.integers(1, 3)) for _ in sizes])))
    if stride is not None:
        parameters["stride"] = stride
    one = st.integers(0, 1)
    form = draw(st.sampled_from(["absent", "int", "per_axis", "pairs"]))
    padding: Any = {
        "absent": 0,
        "int": draw(one),
        "per_axis": [draw(one) for _ in sizes],
        "pairs": [[draw(one), draw(one)] for _ in sizes],
    }[form]
    try:
        output = inferred_sizes(sizes, kernel, stride, padding)
    except OracleError:  # more padding than output
        padding, form = 0, "absent"
        output = inferred_sizes(sizes, kernel, stride, padding)
    if form != "absent":
        parameters["padding"] = padding
    return output


# --------------------------------------------------------------------------------------------------- memory of operands


def as_strided(array: AnyArray) -> AnyArray:
    """The same values as every second element of a larger array, backwards along every axis."""
    larger = np.zeros([2 * size for size in array.shape], dtype=array.dtype)
    view = larger[tuple(slice(None, None, -2) for _ in array.shape)]
    view[...] = array
    return view


def as_big_endian(array: AnyArray) -> AnyArray:
    """The same values with their most significant byte first."""
    return array.astype(array.dtype.newbyteorder(">"))


def as_read_only(array: AnyArray) -> AnyArray:
    """The same values where nobody can write, as those of a request's body."""
    array = array.copy()
    array.flags.writeable = False
    return array


def as_unaligned(array: AnyArray) -> AnyArray:
    """The same values at an odd address, as in a file that was mapped into memory."""
    view = np.empty(array.nbytes + 1, dtype=np.uint8)[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


memory_layouts = st.sampled_from([as_strided, as_big_endian, np.asfortranarray, as_read_only, as_unaligned])
