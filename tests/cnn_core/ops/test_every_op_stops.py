"""Every op stops at every check of its token, in either direction; its declaration is all that a new op needs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnn_core import Cancelled, DeadlineExceeded
from cnn_core.runtime.cancellation import Cancellation
from tests.cnn_core.small_blocks import small_blocks
from tests.cnn_core.stopping import StopsAt, small_passes
from tests.comparisons import normal
from tests.declarations import DECLARATIONS
from tests.declarations.declaration import Arrays, Case, Declaration

MAX_STOPS = 25
"""A computation is stopped at this many of its checks at most: the first and the last ones, and some between."""


def calls() -> list[Any]:
    """Each direction of each example, in each floating type that its operands may have."""
    found = []
    for declared in DECLARATIONS:
        for example, case in [*declared.examples.items(), ("same_in_both_layouts", declared.same_in_both_layouts)]:
            for direction in ("forward", "backward")[: 1 + bool(declared.op.differentiable)]:
                for algorithm in ("direct", "winograd", "fft") if "algorithm" in names_of(declared) else (None,):
                    given = case if algorithm is None else case.given(algorithm=algorithm)
                    name = "-".join(filter(None, (declared.name, example, direction, algorithm)))
                    found.append(pytest.param(declared, given, direction, id=name))
    return found


def names_of(declared: Declaration) -> set[str]:
    return {field.name for field in declared.op.parameters()}


def computing(declared: Declaration, case: Case, direction: str) -> Callable[[], Arrays]:
    if direction == "forward":
        return lambda: declared.computed(case)
    gradient = normal(*declared.output_shape(case), seed=3)
    return lambda: declared.computed_gradients(Case(case.parameters, case.operands, gradient))


def bits(results: Arrays) -> dict[str, tuple[Any, ...]]:
    return {name: (array.shape, array.dtype, array.tobytes()) for name, array in results.items()}


@pytest.mark.parametrize(("declared", "case", "direction"), calls())
def test_it_stops_at_every_check(declared: Declaration, case: Case, direction: str) -> None:
    compute = computing(declared, case, direction)
    expected = bits(compute())
    counting = StopsAt()
    with small_passes(), counting:
        assert bits(compute()) == expected
    # of a whole pass over the results in parts, each is checked
    largest = max(math.prod(shape) * dtype.itemsize for shape, dtype, _ in expected.values())
    assert counting.checks >= max(1, largest // 2**13)
    stops = sorted({*range(1, MAX_STOPS - 5), counting.checks // 2, *range(counting.checks - 3, counting.checks + 1)})
    for stop_at in stops:
        if 1 <= stop_at <= counting.checks:
            with small_passes(), pytest.raises(Cancelled), StopsAt(stop_at):
                compute()
    assert bits(compute()) == expected


@pytest.mark.parametrize(("declared", "case", "direction"), calls())
def test_it_does_not_begin_where_it_was_cancelled_before(declared: Declaration, case: Case, direction: str) -> None:
    """Whatever its size: nothing is too small to be checked."""
    compute = computing(declared, case, direction)
    with pytest.raises(Cancelled), StopsAt(1):
        compute()
    with pytest.raises(DeadlineExceeded), Cancellation(seconds=0):
        compute()


@pytest.mark.parametrize("declared", DECLARATIONS, ids=str)
def test_a_layer_of_many_blocks_makes_a_check_for_each(declared: Declaration) -> None:
    case = declared.same_in_both_layouts
    many = {
        name: np.concatenate([array] * 40) if name in declared.batched else array
        for name, array in case.operands.items()
    }
    counting = StopsAt()
    with small_blocks(2**8, 2**8) as counts, counting:
        declared.computed(Case(case.parameters, many))
    assert counting.checks >= max(2, sum(counts))
