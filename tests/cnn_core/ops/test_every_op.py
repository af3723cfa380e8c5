"""Every op against the oracle of its test declaration: values, gradients, shapes, types, layouts and odd numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from tests.comparisons import normal
from tests.declarations import DECLARATIONS
from tests.declarations.declaration import Arrays, Case, Declaration
from tests.oracle.windows import OracleError
from tests.strategies import quick_settings, thorough_settings

DIFFERENTIABLE = [declaration for declaration in DECLARATIONS if declaration.op.differentiable]
ODD = (np.nan, np.inf, -np.inf)
each_op = pytest.mark.parametrize("declared", DECLARATIONS, ids=str)
each_differentiable_op = pytest.mark.parametrize("declared", DIFFERENTIABLE, ids=str)
examples = [
    pytest.param(declared, case, id=f"{declared.name}-{name}")
    for declared in DECLARATIONS
    for name, case in [*declared.examples.items(), ("same_in_both_layouts", declared.same_in_both_layouts)]
]
each_example = pytest.mark.parametrize(("declared", "case"), examples)
many_settings = settings(thorough_settings, max_examples=1000)


def assert_agree(actual: Arrays, expected: Arrays, tolerance: tuple[float, float]) -> None:
    """The same names, shapes, dtypes and, up to the tolerance, values; NaN equals NaN."""
    assert actual.keys() == expected.keys()
    relative, absolute = tolerance
    for name, array in expected.items():
        np.testing.assert_allclose(actual[name], array, rtol=relative, atol=absolute, strict=True, err_msg=name)


def require_forward(declared: Declaration, case: Case) -> None:
    """The results are those of the oracle, and have the shapes that were predicted."""
    computed = declared.computed(case)
    assert_agree(computed, declared.expected(case), declared.forward_tolerance)
    shapes = resolved(declared, case).result_shapes
    assert {name: array.shape for name, array in computed.items()} == shapes


def require_backward(declared: Declaration, case: Case) -> None:
    """The gradients are those of the oracle, and have the shapes that were predicted."""
    try:
        expected = declared.expected_gradients(case)
    except OracleError:  # of numbers that have no gradient
        reject()
    computed = declared.computed_gradients(case)
    assert_agree(computed, expected, declared.backward_tolerance)
    shapes = resolved(declared, case).gradient_shapes
    assert {name.removeprefix("grad_"): array.shape for name, array in computed.items()} == shapes


def resolved(declared: Declaration, case: Case) -> Any:
    operands = (case.operands.get(operand.name) for operand in declared.op.operands)
    op = declared.create_op(**case.parameters)
    return op.resolve(*(None if operand is None else operand.shape for operand in operands))


def with_gradient(declared: Declaration, case: Case) -> Case:
    """The case with a grad_output."""
    return Case(case.parameters, case.operands, normal(*declared.output_shape(case), seed=4))


def in_type(case: Case, dtype: str) -> Case:
    """The case with floats of another type; integers have theirs for a reason."""

    def converted(array: Any) -> Any:
        return array.astype(dtype) if array is not None and array.dtype.kind == "f" else array

    operands = {name: converted(array) for name, array in case.operands.items()}
    return Case(case.parameters, operands, converted(case.grad_output))


@each_differentiable_op
def test_an_op_with_gradients_has_an_oracle_for_them(declared: Declaration) -> None:
    assert declared.backward is not None


@each_op
@given(st.data())
@thorough_settings
def test_forward_agrees_with_the_oracle(declared: Declaration, data: st.DataObject) -> None:
    require_forward(declared, data.draw(declared.cases))


@each_differentiable_op
@given(st.data())
@thorough_settings
def test_backward_agrees_with_the_oracle(declared: Declaration, data: st.DataObject) -> None:
    require_backward(declared, data.draw(declared.cases))


@pytest.mark.exhaustive
@each_op
@given(st.data())
@many_settings
def test_many_more_cases_agree_with_the_oracle(declared: Declaration, data: st.DataObject) -> None:
    case = data.draw(declared.cases)
    require_forward(declared, case)
    if declared.op.differentiable:
        require_backward(declared, case)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@each_example
def test_the_examples_agree_with_the_oracle(declared: Declaration, case: Case, data_format: str) -> None:
    if case is declared.same_in_both_layouts:
        case = case.given(data_format=data_format)
    require_forward(declared, case)
    if declared.op.differentiable:
        require_backward(declared, with_gradient(declared, case))


@each_op
@given(st.data(), st.sampled_from(ODD), st.integers(0, 2**20))
@quick_settings
def test_what_is_not_finite_reaches_the_windows_that_hold_it(
    declared: Declaration, data: st.DataObject, odd: float, place: int
) -> None:
    case = data.draw(declared.cases)
    input = case.operands["input"].copy()
    if input.dtype.kind != "f" or not input.size:
        return
    input.reshape(-1)[place % input.size] = odd
    require_forward(declared, Case(case.parameters, {**case.operands, "input": input}))


@each_op
@given(st.data(), st.sampled_from(["float16", "float32"]))
@quick_settings
def test_narrow_floats_are_rounded_once(declared: Declaration, data: st.DataObject, dtype: str) -> None:
    """The sums of float16 are in float32; the result is as close to the exact one as its type allows."""
    cases = declared.cases if declared.moderate_cases is None else declared.moderate_cases
    case = in_type(data.draw(cases), dtype)
    tolerance = {"float16": 1e-3, "float32": 1e-5}[dtype]
    pairs = [(declared.computed(case), declared.expected(in_type(case, "float64")))]
    if declared.op.differentiable:
        pairs.append((declared.computed_gradients(case), declared.expected_gradients(in_type(case, "float64"))))
    for computed, expected in pairs:
        assert computed.keys() == expected.keys()
        for name, array in expected.items():
            assert computed[name].dtype == (dtype if array.dtype.kind == "f" else array.dtype)
            size = np.abs(array[np.isfinite(array)]).max(initial=1.0)
            np.testing.assert_allclose(computed[name].astype(array.dtype), array, rtol=tolerance, atol=tolerance * size)


@each_example
def test_an_empty_batch_has_empty_results(declared: Declaration, case: Case) -> None:
    operands = {name: array[:0] if name in declared.batched else array for name, array in case.operands.items()}
    empty = Case(case.parameters, operands)
    for array in declared.computed(empty).values():
        assert array.shape[0] == 0
    if declared.op.differentiable:
        for name, array in declared.computed_gradients(with_gradient(declared, empty)).items():
            assert array.shape[0] == 0 or (name != "grad_input" and not array.any())
