"""Unfold and Fold against the loop oracle, against each other and against convolution, and their order by hand."""

from __future__ import annotations

import copy
import dataclasses
import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_core import Conv, ConvpoolError, DtypeError, Fold, ParameterError, ShapeError, Unfold
from tests.comparisons import assert_close, inner, normal
from tests.oracle import unfold as oracle
from tests.strategies import quick_settings
from tests.strategies_conv import MatrixCase, few_settings, matrix_cases, memory_layouts, refused


def fold_of(case: MatrixCase) -> Fold:
    """The op that takes back what the case unfolds."""
    return Fold(output_size=tuple(case.sizes), **case.parameters)


# ------------------------------------------------------------------------------------------------- against the oracle


# --------------------------------------------------------------------------------------------------------- identities


@quick_settings
@given(matrix_cases())
def test_fold_is_the_adjoint_of_unfold(case: MatrixCase) -> None:
    product = inner(Unfold(**case.parameters).forward(case.input), case.matrix)
    assert inner(case.input, fold_of(case).forward(case.matrix)) == pytest.approx(product, rel=1e-10, abs=1e-10)


@quick_settings
@given(matrix_cases(), st.integers(1, 3))
def test_convolution_is_a_product_with_the_unfolded_input(case: MatrixCase, filters: int) -> None:
    parameters = dict(case.parameters)
    kernel_size = parameters.pop("kernel_size")
    kernel = [kernel_size] * len(case.sizes) if isinstance(kernel_size, int) else kernel_size
    matrix = Unfold(**case.parameters).forward(case.input)
    if parameters.get("data_format") == "channels_first":
        weight = normal(filters, case.input.shape[1], *kernel)
        flat = weight.reshape(filters, -1) @ matrix
    else:
        weight = normal(*kernel, case.input.shape[-1], filters)
        flat = matrix @ weight.reshape(-1, filters)
    output = Conv(**parameters).forward(case.input, weight)
    assert_close(flat.reshape(output.shape), output)


@few_settings
@given(matrix_cases(), st.integers(0, 2**32 - 1))
def test_gradients_agree_with_central_differences(case: MatrixCase, seed: int) -> None:
    random = np.random.default_rng(seed)
    unfold, fold = Unfold(**case.parameters), fold_of(case)
    for op, input, gradient in ((unfold, case.input, case.matrix), (fold, case.matrix, case.input)):
        toward = random.standard_normal(input.shape) * 1e-3
        slope = inner(op.forward(input + toward) - op.forward(input - toward), gradient) / 2
        assert slope == pytest.approx(inner(toward, op.backward(gradient, input)), rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(
    ("sizes", "channels", "parameters"),
    [
        ([40, 37], 6, {"kernel_size": [5, 3], "stride": [2, 3], "padding": [[2, 1], [0, 3]]}),
        ([300], 5, {"kernel_size": 25, "dilation": 4, "padding": 30}),
        ([9, 10, 11], 4, {"kernel_size": [3, 2, 3], "stride": [1, 2, 1], "padding": "same"}),
        ([20, 20], 16, {"kernel_size": 1}),
        ([30, 31], 3, {"kernel_size": 29}),
    ],
)
def test_sizes_beyond_those_of_the_random_cases(
    sizes: list[int], channels: int, parameters: dict[str, Any], data_format: Any
) -> None:
    """Folding the unfolded multiplies each element by the number of windows over it, which one channel counts."""
    shape = (2, channels, *sizes) if data_format == "channels_first" else (2, *sizes, channels)
    input = normal(*shape)
    unfold = Unfold(**parameters, data_format=data_format)
    fold = Fold(**parameters, output_size=tuple(sizes), data_format=data_format)
    matrix = unfold.forward(input)
    ones = np.ones((1, *sizes, 1))
    count = oracle.fold(oracle.unfold(ones, **parameters), output_size=sizes, **parameters)
    windows = count.reshape(1, 1, *sizes) if data_format == "channels_first" else count
    assert_close(fold.forward(matrix), input * windows)
    gradient = normal(*matrix.shape, seed=1)
    assert inner(fold.forward(gradient), input) == pytest.approx(inner(gradient, matrix), rel=1e-9)


# ------------------------------------------------------------------------------------------------------------ by hand


def test_the_order_of_rows_and_columns() -> None:
    """channels_first: rows are (C, *kernel), columns positions; channels_last: rows positions, columns (*kernel, C)."""
    image = np.array([[[1, 2, 3], [4, 5, 6]], [[10, 20, 30], [40, 50, 60]]], dtype=float)  # (C, H, W)
    first = Unfold(kernel_size=2, data_format="channels_first").forward(image[np.newaxis])
    columns = [[1, 2, 4, 5, 10, 20, 40, 50], [2, 3, 5, 6, 20, 30, 50, 60]]
    assert first[0].T.tolist() == columns
    last = Unfold(kernel_size=2).forward(np.moveaxis(image, 0, -1)[np.newaxis])
    assert last[0].tolist() == [[1, 10, 2, 20, 4, 40, 5, 50], [2, 20, 3, 30, 5, 50, 6, 60]]


def test_positions_are_row_major_and_padding_is_zeros() -> None:
    image = np.arange(1.0, 5).reshape(1, 2, 2, 1)
    matrix = Unfold(kernel_size=(1, 2), stride=(1, 2), padding=((0, 0), (1, 1))).forward(image)
    assert matrix[0].tolist() == [[0, 1], [2, 0], [0, 3], [4, 0]]


@pytest.mark.parametrize(("padding", "expected"), [("same", [[1, 2], [3, 0]]), ("same_lower", [[0, 1], [2, 3]])])
def test_the_odd_element_of_same_padding(padding: Any, expected: list[list[float]]) -> None:
    parameters: dict[str, Any] = {"kernel_size": 2, "stride": 2, "padding": padding}
    matrix = Unfold(**parameters).forward(np.array([1.0, 2, 3]).reshape(1, 3, 1))
    assert matrix[0].tolist() == expected
    folded = Fold(output_size=(3,), **parameters).forward(np.array([[[1.0, 2], [3, 4]]]))
    assert folded.reshape(-1).tolist() == ([1, 2, 3] if padding == "same" else [2, 3, 4])


def test_overlapping_windows_add_and_elements_of_no_window_are_zeros() -> None:
    matrix = np.array([[[1.0, 2, 3], [10, 20, 30]]])
    assert Fold(output_size=(4,), kernel_size=3).forward(matrix).reshape(-1).tolist() == [1, 12, 23, 30]
    assert Fold(output_size=(8,), kernel_size=3, stride=4).forward(matrix).reshape(-1).tolist() == [
        *[1, 2, 3, 0],
        *[10, 20, 30, 0],
    ]


@pytest.mark.parametrize("framework", [None, "torch", "onnx", "tensorflow", "jax"])
def test_data_format_of_a_framework(framework: Any) -> None:
    default = "channels_first" if framework in {"torch", "onnx", "jax"} else "channels_last"
    required: dict[str, Any] = {"kernel_size": 1, "framework": framework}
    for op, more in ((Unfold, required), (Fold, {**required, "output_size": [3]})):
        assert op(**more).data_format == default
        assert op(**more, data_format="channels_last").data_format == "channels_last"
        assert op(**more, data_format="channels_first").data_format == "channels_first"


def test_predicting_a_huge_matrix_costs_nothing() -> None:
    huge = 10**9
    tracemalloc.start()
    unfolded = Unfold(kernel_size=2).output_shape((1, huge, 3))
    folded = Fold(output_size=(huge,), kernel_size=2).output_shape(unfolded)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (unfolded, folded) == ((1, huge - 1, 6), (1, huge, 3))
    assert peak < 2**20


# ----------------------------------------------------------------------------------------------------------- operands


@pytest.mark.parametrize(
    ("input", "grad_output", "expected"),
    [
        ("float16", "float16", "float16"),
        ("float32", "float32", "float32"),
        ("float16", "float32", "float32"),
        ("float32", "float64", "float64"),
        ("int8", "uint64", "float64"),
    ],
)
def test_results_have_the_common_floating_dtype(input: str, grad_output: str, expected: str) -> None:
    image, matrix = np.arange(8).reshape(1, 4, 2).astype(input), np.arange(12).reshape(1, 3, 4).astype(grad_output)
    unfold, fold = Unfold(kernel_size=2), Fold(output_size=(4,), kernel_size=2)
    unfolded = oracle.unfold(image, kernel_size=2)
    folded = oracle.fold(matrix, output_size=[4], kernel_size=2)
    own = {name: "float64" if np.dtype(name).kind in "iu" else name for name in (input, grad_output)}
    np.testing.assert_array_equal(unfold.forward(image), unfolded.astype(own[input]), strict=True)
    np.testing.assert_array_equal(fold.forward(matrix), folded.astype(own[grad_output]), strict=True)
    np.testing.assert_array_equal(unfold.backward(matrix, image), folded.astype(expected), strict=True)
    np.testing.assert_array_equal(fold.backward(image, matrix), unfolded.astype(expected), strict=True)


def test_float16_accumulates_in_float32() -> None:
    """4096 windows lie over the element in the middle; counting in float16 stops at 2048."""
    matrix = np.ones((1, 4096, 4096), dtype=np.float16)
    folded = Fold(output_size=(8191,), kernel_size=4096).forward(matrix)
    assert folded.dtype == np.float16
    assert folded[0, 4095].item() == 4096


@few_settings
@given(matrix_cases(), memory_layouts)
def test_operands_of_any_memory_layout_are_read_and_never_written(case: MatrixCase, change: Any) -> None:
    input, matrix = change(case.input), change(case.matrix)
    plain_input, plain_matrix = np.array(input, dtype=np.float64), np.array(matrix, dtype=np.float64)
    changed = copy.deepcopy(case.parameters)
    unfold, fold = Unfold(**changed), Fold(output_size=tuple(case.sizes), **changed)
    results = [
        (unfold.forward(input), unfold.forward(plain_input)),
        (fold.forward(matrix), fold.forward(plain_matrix)),
        (unfold.backward(matrix, input), unfold.backward(plain_matrix, plain_input)),
        (fold.backward(input, matrix), fold.backward(plain_input, plain_matrix)),
    ]
    for result, expected in results:
        assert_close(result, expected)
        result.fill(np.nan)  # a result may be written to: it is no view of an operand
    np.testing.assert_array_equal(input, plain_input)
    np.testing.assert_array_equal(matrix, plain_matrix)


def test_unfolding_windows_of_one_element_is_no_view_of_the_input() -> None:
    """Where a reshape of the input would do."""
    input = np.ones((1, 4, 2))
    matrix = Unfold(kernel_size=1).forward(input)
    matrix.fill(7)
    Fold(output_size=(4,), kernel_size=1).forward(matrix).fill(9)
    assert input.max() == 1
    assert matrix.max() == 7


# ----------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(("op", "parameters"), [(Unfold, {}), (Fold, {"output_size": (4,)})])
def test_parameters_have_names_and_stay(op: Any, parameters: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        op(2, **parameters)
    with pytest.raises(dataclasses.FrozenInstanceError):
        op(kernel_size=2, **parameters).stride = 2


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 5, 8), (5, 6)),  # windows
        ((1, 7, 8), (7, 6)),
        ((1, 6, 7), (7, 4)),  # elements of a window
        ((1, 6, 0), ()),
        ((6, 8), (2,)),
        ((1, 2, 3, 8), (4,)),
    ],
    ids=str,
)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_matrices_that_do_not_fold(shape: tuple[int, ...], words: tuple[object, ...], data_format: Any) -> None:
    """Six windows of 2 x 2 fit 3 x 4 elements."""
    fold = Fold(output_size=(3, 4), kernel_size=2, data_format=data_format)
    if data_format == "channels_first":
        shape = (*shape[:-2], shape[-1], shape[-2])
    with refused(ShapeError, "input", *words):
        fold.output_shape(shape)
    with refused(ShapeError, "input", *words):
        fold.forward(np.ones(shape))


@pytest.mark.parametrize(
    ("input_shape", "words"),
    [((1, 2, 3), (2, 4)), ((4, 3), (2,)), ((1, 2, 2, 2, 2, 3), (6,)), ((1, 0, 3), ()), ((1, 4, 0), ())],
    ids=str,
)
def test_inputs_that_do_not_unfold(input_shape: tuple[int, ...], words: tuple[object, ...]) -> None:
    """A window spans four elements."""
    with refused(ShapeError, "input", *words):
        Unfold(kernel_size=2, dilation=3).forward(np.ones(input_shape))
    with refused(ShapeError, "input", *words):
        Unfold(kernel_size=2, dilation=3).output_shape(input_shape)


def test_a_window_larger_than_what_is_folded_to() -> None:
    with pytest.raises(ConvpoolError, match=r"\b4\b.*\b3\b|\b3\b.*\b4\b"):
        Fold(output_size=(3,), kernel_size=4).output_shape((1, 1, 4))


@pytest.mark.parametrize(
    ("op", "parameters", "subject"),
    [
        (Unfold, {"kernel_size": 0}, "kernel_size"),
        (Unfold, {"kernel_size": None}, "kernel_size"),
        (Unfold, {"kernel_size": 2, "stride": 0}, "stride"),
        (Unfold, {"kernel_size": 2, "stride": None}, "stride"),
        (Unfold, {"kernel_size": 2, "padding": -1}, "padding"),
        (Unfold, {"kernel_size": 2, "padding": "full"}, "padding"),
        (Unfold, {"kernel_size": 2, "dilation": [1, 0]}, "dilation"),
        (Unfold, {"kernel_size": 2, "data_format": "CNHW"}, "data_format"),
        (Unfold, {"kernel_size": 2, "framework": "caffe"}, "framework"),
        (Fold, {"kernel_size": 2, "output_size": 4}, "output_size"),  # of how many axes?
        (Fold, {"kernel_size": 2, "output_size": []}, "output_size"),
        (Fold, {"kernel_size": 2, "output_size": [4, 0]}, "output_size"),
        (Fold, {"kernel_size": 2, "output_size": [4.5]}, "output_size"),
        (Fold, {"kernel_size": True, "output_size": [4]}, "kernel_size"),
        (Fold, {"kernel_size": 2, "output_size": [4], "framework": "caffe"}, "framework"),
    ],
    ids=str,
)
def test_parameters_that_are_refused(op: Any, parameters: dict[str, Any], subject: str) -> None:
    with refused(ParameterError, subject):
        op(**parameters)


@pytest.mark.parametrize(
    "parameters",
    [{"kernel_size": [2, 2, 2]}, {"kernel_size": 2, "stride": [1, 1, 1]}, {"kernel_size": 2, "padding": [[0, 1]]}],
    ids=str,
)
def test_as_many_values_as_axes(parameters: dict[str, Any]) -> None:
    with pytest.raises(ConvpoolError, match="2"):
        Unfold(**parameters).output_shape((1, 4, 4, 1))
    with pytest.raises(ConvpoolError, match="2"):
        Fold(**parameters, output_size=(4, 4)).output_shape((1, 9, 4))


def test_there_are_at_most_three_axes_to_fold_to() -> None:
    with refused(ParameterError, "output_size", 4, 3):
        Fold(output_size=(4, 4, 4, 4), kernel_size=1).output_shape((1, 256, 1))


def test_gradients_of_other_shapes_are_refused() -> None:
    unfold, fold = Unfold(kernel_size=2), Fold(output_size=(5,), kernel_size=2)
    image, matrix = normal(1, 5, 3), normal(1, 4, 6)
    with refused(ShapeError, "grad_output", "(1, 5, 6)", "(1, 4, 6)"):
        unfold.backward(normal(1, 5, 6), image)
    with refused(ShapeError, "grad_output", "(1, 5, 4)", "(1, 5, 3)"):
        fold.backward(normal(1, 5, 4), matrix)


@pytest.mark.parametrize("dtype", ["bool", "complex64", "object", "U1"])
def test_dtypes_that_are_no_real_numbers_are_refused(dtype: str) -> None:
    refused_input = np.zeros((1, 3, 2), dtype=dtype)
    with refused(DtypeError, "input"):
        Unfold(kernel_size=2).forward(refused_input)
    with refused(DtypeError, "input"):
        Fold(output_size=(4,), kernel_size=2).forward(refused_input)
    with refused(DtypeError, "grad_output"):
        Unfold(kernel_size=2).backward(refused_input, normal(1, 4, 1))


def test_the_number_of_channels_follows_from_the_matrix() -> None:
    for channels in (1, 2, 5):
        rows = channels * math.prod((2, 3))
        assert Fold(output_size=(2, 4), kernel_size=(2, 3)).output_shape((7, 2, rows)) == (7, 2, 4, channels)
