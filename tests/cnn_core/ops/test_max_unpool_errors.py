"""What MaxUnpool refuses: indices outside or that are none, shapes that do not fit, parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnn_core import ConvpoolError, DtypeError, MaxUnpool, OperandError, ParameterError, ShapeError
from tests.comparisons import normal
from tests.oracle.windows import AnyArray

bad_indices = (DtypeError, OperandError)  # the rules leave open which of them it is


# ------------------------------------------------------------------------------------------------------ wrong indices


@pytest.mark.parametrize(("index_scheme", "largest"), [("plane", 5), ("image", 2 * 6 - 1), ("tensor", 3 * 2 * 6 - 1)])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_an_index_outside(index_scheme: Any, largest: int, data_format: Any) -> None:
    """In 3 images of 6 elements with 2 channels."""
    op = MaxUnpool(output_size=6, index_scheme=index_scheme, data_format=data_format)
    shape = (3, 1, 2) if data_format == "channels_last" else (3, 2, 1)
    indices = np.full(shape, largest)
    assert op.forward(np.ones(shape), indices).reshape(-1)[-1] == 1
    operands = np.ones(op.output_shape(shape, shape)), np.ones(shape), indices
    calls: list[tuple[Any, Any]] = [(op.forward, operands[1:]), (op.backward, operands)]
    for outside in (largest + 1, -1, -(2**62), 2**62):
        indices[1] = outside
        for call, arguments in calls:
            with pytest.raises(OperandError) as caught:
                call(*arguments)
            assert caught.value.subject == "indices"
            assert str(outside) in str(caught.value)
            words = "".join(letter if letter.isalnum() else " " for letter in str(caught.value)).split()
            assert {str(largest), str(largest + 1)} & set(words), str(caught.value)


def test_an_index_beyond_every_int64() -> None:
    indices = np.array([0, 2**64 - 1], dtype=np.uint64).reshape(1, 2, 1)  # -1 as an int64
    with pytest.raises(OperandError) as caught:
        MaxUnpool(output_size=6).forward(np.ones((1, 2, 1)), indices)
    assert caught.value.subject == "indices"


@pytest.mark.parametrize("value", [0.5, -0.25, 1 + 2**-50, np.nan, np.inf, -np.inf, 1e300, -1.0, 6.0])
def test_floats_that_are_no_index(value: float) -> None:
    indices = np.array([0, value]).reshape(1, 2, 1)
    operands = np.ones((1, 6, 1)), np.ones((1, 2, 1)), indices
    op = MaxUnpool(output_size=6)
    calls: list[tuple[Any, Any]] = [(op.forward, operands[1:]), (op.backward, operands)]
    for call, arguments in calls:
        with pytest.raises(bad_indices) as caught:
            call(*arguments)
        assert caught.value.subject == "indices"


@pytest.mark.parametrize(("dtype", "exact"), [("float16", 2**11), ("float32", 2**24)])
def test_floats_beyond_what_their_type_holds_exactly(dtype: str, exact: int) -> None:
    """exact + 2 may have been exact + 1 or exact + 3 before it was rounded."""
    op = MaxUnpool(output_size=exact + 10)
    one = np.ones((1, 1, 1), dtype=np.float16)
    output = op.forward(one, np.full((1, 1, 1), exact - 1, dtype=dtype))
    assert np.flatnonzero(output).tolist() == [exact - 1]
    with pytest.raises(bad_indices) as caught:
        op.forward(one, np.full((1, 1, 1), exact + 2, dtype=dtype))
    assert caught.value.subject == "indices"


@pytest.mark.parametrize("dtype", ["bool", "complex128", "object", "U1", "datetime64[s]"])
def test_dtypes_that_are_refused(dtype: str) -> None:
    zeros = np.zeros((1, 2, 1), dtype=dtype)
    for subject, operands in {
        "indices": (np.ones((1, 4, 1)), np.ones((1, 2, 1)), zeros),
        "input": (np.ones((1, 4, 1)), zeros, np.zeros((1, 2, 1), dtype=np.int64)),
        "grad_output": (zeros.repeat(2, axis=1), np.ones((1, 2, 1)), np.zeros((1, 2, 1), dtype=np.int64)),
    }.items():
        with pytest.raises(DtypeError) as caught:
            MaxUnpool(kernel_size=2).backward(*operands)
        assert caught.value.subject == subject


# ------------------------------------------------------------------------------------------------- shapes, parameters


def assert_refused(error: Any, subject: str, *words: str, call: Any) -> None:
    with pytest.raises(error) as caught:
        call()
    assert caught.value.subject == subject
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 3, 1), (1, 2), (2, 2, 1), (1, 2, 1, 1), (1, 1, 2), ()])
def test_indices_have_the_shape_of_the_input(shape: tuple[int, ...]) -> None:
    op, input, indices = MaxUnpool(kernel_size=2), normal(1, 2, 1), np.zeros(shape, dtype=np.int64)
    needed = ("(1, 2, 1)", str(shape))
    assert_refused(ShapeError, "indices", *needed, call=lambda: op.forward(input, indices))
    assert_refused(ShapeError, "indices", *needed, call=lambda: op.backward(normal(1, 4, 1), input, indices))
    assert_refused(ShapeError, "indices", *needed, call=lambda: op.output_shape(input.shape, shape))


def test_grad_output_must_have_the_shape_of_the_output() -> None:
    operands: tuple[AnyArray, ...] = (normal(1, 3, 1), normal(1, 2, 1), np.zeros((1, 2, 1), dtype=np.int64))
    op = MaxUnpool(kernel_size=2)
    assert_refused(ShapeError, "grad_output", "(1, 3, 1)", "(1, 4, 1)", call=lambda: op.backward(*operands))


@pytest.mark.parametrize("shape", [(), (3,), (3, 3), (1, 2, 2, 2, 2, 1), (1, 0, 3), (1, 3, 0)])
def test_shapes_that_are_no_input(shape: tuple[int, ...]) -> None:
    indices = np.zeros(shape, dtype=np.int64)
    assert_refused(ShapeError, "input", call=lambda: MaxUnpool(output_size=3).forward(np.zeros(shape), indices))
    assert_refused(ShapeError, "input", call=lambda: MaxUnpool(output_size=3).output_shape(shape, shape))


def test_padding_that_leaves_no_output() -> None:
    op = MaxUnpool(kernel_size=2, padding=1)
    assert op.output_shape((1, 2, 1), (1, 2, 1)) == (1, 2, 1)
    with pytest.raises(ShapeError):
        op.output_shape((1, 1, 1), (1, 1, 1))


def test_kernel_size_or_output_size_is_needed() -> None:
    with pytest.raises(ParameterError, match="kernel_size") as caught:
        MaxUnpool()
    assert "output_size" in str(caught.value)
    assert caught.value.subject in {"kernel_size", "output_size"}


not_one_or_more: list[Any] = [0, -1, 1.5, True, "2", []]
refused: dict[str, list[Any]] = {
    "kernel_size": not_one_or_more,
    "stride": not_one_or_more,
    "output_size": not_one_or_more,
    "padding": [-1, 1.5, None, True, [[0, -1]]],
    "index_scheme": ["Planes", "flat", 0, ["plane", "image"]],
    "storage_order": ["C", 1, None],
    "data_format": ["CNHW"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in refused for value in refused[name]])
def test_values_that_are_refused(name: str, value: Any) -> None:
    parameters: dict[str, Any] = {"kernel_size": 2, name: value}
    assert_refused(ParameterError, name, name, call=lambda: MaxUnpool(**parameters))


@pytest.mark.parametrize("name", ["kernel_size", "stride", "output_size", "padding"])
def test_as_many_values_as_axes(name: str) -> None:
    parameters: dict[str, Any] = {"kernel_size": 2} | {name: [1, 1]}
    op = MaxUnpool(**parameters)
    assert_refused(ParameterError, name, name, call=lambda: op.output_shape((1, 3, 1), (1, 3, 1)))


@pytest.mark.parametrize(("name", "value"), [("stride", 2), ("padding", 1), ("padding", "same")])
def test_what_has_no_meaning_without_kernel_size(name: str, value: Any) -> None:
    given: Any = {name: value}
    with pytest.raises(ParameterError) as caught:
        MaxUnpool(output_size=4, **given)
    assert caught.value.subject == name
    assert MaxUnpool(output_size=4, padding=0).output_shape((1, 2, 1)) == (1, 4, 1)


def test_with_output_size_the_windows_need_not_fit() -> None:
    op = MaxUnpool(kernel_size=2, padding=1, output_size=2)
    assert op.forward([[[7.0]]], [[[1]]]).ravel().tolist() == [0, 7]


@pytest.mark.parametrize("indices", [[[[1], [2, 3]]], "12", [["a"]]], ids=repr)
def test_indices_that_are_no_array(indices: Any) -> None:
    with pytest.raises(ConvpoolError) as caught:
        MaxUnpool(kernel_size=2).forward(np.ones((1, 2, 1)), indices)
    assert caught.value.subject == "indices"


def test_a_shape_of_indices_that_is_none() -> None:
    with pytest.raises(ShapeError):
        MaxUnpool(kernel_size=2).resolve((1, 2, 1), 5)  # type: ignore[arg-type]
