"""Results are the exact ones, rounded once: as plain loops and as fractions of Python compute them."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from service.cases.computing import Case
from tests.oracle.windows import AnyArray
from tests.service.cases.oracles import ENTRIES, FLOATING, call_of, cases_of, expected, parameters_of, rounded

KINDS = ("random", "integers")
TYPES = ("float16", "float32", "float64")
LAYERS = [
    (entry.name, dtype) for entry in ENTRIES.values() for dtype in (TYPES if entry in FLOATING else ("int8", "uint8"))
]


def is_rounded_on_the_way(case: Case, name: str, dtype: str) -> bool:
    """Whether docs/golden-cases.md excepts a gradient, or loops that add quotients round more than once."""
    op: Any = case.layer.op
    if name != "grad_input" or dtype != "float64":
        return False
    is_average = type(op).__name__ == "AvgPool"
    return is_average or getattr(op, "norm_type", 1) == 2 or getattr(op, "ties", "") == "split"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("layer", "dtype"), LAYERS)
def test_results_have_the_bits_of_loops(layer: str, dtype: str, kind: str) -> None:
    call = call_of(layer, kind=kind, dtype=dtype, count=8, seed=11)
    for case in cases_of(call):
        wanted = expected(call, case)
        assert list(wanted) == list(case.results)
        for name, result in case.results.items():
            assert result.dtype == (wanted[name].dtype if result.dtype.kind in "iu" else call.dtype)
            if kind == "random" and is_rounded_on_the_way(case, name, dtype):
                np.testing.assert_allclose(result, wanted[name], rtol=0, atol=case.tolerances[name][0])
            else:
                np.testing.assert_array_equal(result, rounded(wanted[name], call.dtype), strict=True)


def exact(array: AnyArray) -> dict[tuple[int, ...], Fraction]:
    return {index: Fraction(float(value)) for index, value in np.ndenumerate(array)}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("channels", [1, 40])
def test_sums_are_exact_in_any_order(dtype: str, channels: int) -> None:
    """Every partial sum is a multiple of one unit, and fewer than 2^53 of them: float64 holds it."""
    call = call_of(
        "conv", parameters={}, shapes={"input": [2, 9, channels], "weight": [3, None, 2]}, dtype=dtype, count=3
    )
    for case in cases_of(call):
        operands = {name: exact(array) for name, array in case.operands.items()}
        outputs, gradients = case.results["output"], case.results["grad_weight"]
        for image, position, feature in np.ndindex(outputs.shape):
            terms = [
                operands["input"][image, position + tap, channel] * operands["weight"][tap, channel, feature]
                for tap, channel in itertools.product(range(3), range(channels))
            ]
            terms += [operands["bias"][feature,]] if "bias" in operands else []
            require_exact(terms, outputs[image, position, feature])
        for tap, channel, feature in np.ndindex(gradients.shape):
            terms = [
                operands["input"][image, position + tap, channel] * operands["grad_output"][image, position, feature]
                for image, position in np.ndindex(outputs.shape[:2])
            ]
            require_exact(terms, gradients[tap, channel, feature])


def test_gradients_of_padding_that_is_copied_are_exact() -> None:
    """The first element is in the padding 40 times: its gradient has many more terms than a window."""
    parameters = {"padding": [[[40, 0]]], "padding_mode": "replicate"}
    shapes = {"input": [1, 4, 1], "weight": [3, 1, 16], "bias": None}
    for case in cases_of(call_of("conv", parameters=parameters, shapes=shapes, count=3)):
        weight, gradient = exact(case.operands["weight"]), exact(case.operands["grad_output"])
        terms: list[list[Fraction]] = [[], [], [], []]
        for (_, window, feature), factor in gradient.items():
            for tap in range(3):
                terms[max(0, window + tap - 40)].append(factor * weight[tap, 0, feature])
        assert len(terms[0]) > 1900
        for at in range(4):
            require_exact(terms[at], case.results["grad_input"][0, at, 0])


def require_exact(terms: list[Fraction], result: Any) -> None:
    total, unit = sum(terms, Fraction(0)), math.lcm(*(term.denominator for term in terms))
    assert sum(abs(term) for term in terms) * unit <= 2**53
    assert Fraction(float(total)) == total
    assert result == np.float64(float(total)).astype(result.dtype)


@pytest.mark.parametrize("parameters", [{"padding": 1}, {"padding": [[[2, 0]]], "divisor_override": -3}, {}])
def test_gradients_of_averages_are_divided_once(parameters: dict[str, Any]) -> None:
    windows = {"mode": "avg", "kernel_size": 3, "stride": 1}
    call = call_of("pool", parameters={**windows, **parameters}, shapes={"input": [1, 8, 1]}, dtype="float64", count=5)
    for case in cases_of(call):
        op: Any = case.layer.op
        ((before, _),) = case.layer.resolved.windows.padding
        gradient = exact(case.operands["grad_output"])
        wanted = [Fraction(0)] * 8
        for _, window, _ in gradient:
            taps = [at for at in range(window - before, window - before + 3) if 0 <= at < 8]
            for at in taps:
                wanted[at] += gradient[0, window, 0] / (op.divisor_override or len(taps))
        assert case.results["grad_input"].ravel().tolist() == [float(value) for value in wanted]


@pytest.mark.parametrize("layer", [entry.name for entry in FLOATING])
@pytest.mark.parametrize("dtype", TYPES)
def test_integers_stay_integers_that_the_type_holds(layer: str, dtype: str) -> None:
    call = call_of(layer, kind="integers", dtype=dtype, count=30, seed=5)
    limit = 2 ** {"float16": 11, "float32": 24, "float64": 53}[dtype]
    nonzero = 0
    for case in cases_of(call):
        assert {absolute for absolute, _ in case.tolerances.values()} == {0.0}
        for name, result in case.results.items():
            assert np.all(result == np.rint(result)), name
            assert np.all(np.abs(result.astype(np.float64)) <= limit), name
            nonzero += int(np.count_nonzero(result))
    assert nonzero > 100


@pytest.mark.parametrize("layer", [entry.name for entry in FLOATING])
def test_zeros_and_nans_have_one_form(layer: str) -> None:
    for dtype, nan_bits in (("float16", 0x7E00), ("float32", 0x7FC00000), ("float64", 0x7FF8000000000000)):
        zeros = nans = 0
        for case in cases_of(call_of(layer, kind="edges", dtype=dtype)):
            for result in case.results.values():
                if result.dtype.kind == "f":
                    zeros += int((result == 0).sum())
                    assert not np.signbit(result[result == 0]).any()
                    bits = result[np.isnan(result)].view(f"u{result.itemsize}")
                    nans += len(bits)
                    assert set(bits.tolist()) <= {nan_bits}
        assert zeros > 0
        assert nans > 0


@pytest.mark.parametrize(("layer", "dtype"), LAYERS)
def test_the_manifest_has_every_parameter(layer: str, dtype: str) -> None:
    """A call with these parameters gives the results, in the type of the case and so within the tolerance."""
    entry = ENTRIES[layer]
    call = call_of(layer, dtype=dtype, count=10, seed=3, parameters="any")
    for case in cases_of(call):
        parameters = parameters_of(entry, call, case)
        for operation in entry.operations:
            operands = {name: array for name, array in case.operands.items() if name in operation.operand_names}
            results = operation.results_of(operation.parse_parameters(parameters), operands)
            for name, result in results.items():
                bound, _ = case.tolerances[name]
                assert np.all(np.abs(result.astype(np.float64) - case.results[name].astype(np.float64)) <= bound), name
