"""Windows of many taps over few channels, which Fourier transforms may compute."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cnn_core import Conv, ConvTranspose
from tests.cnn_core import tap_by_tap
from tests.cnn_core.small_blocks import small_blocks
from tests.cnn_core.tap_by_tap import RESULTS, assert_near
from tests.strategies import ConvCase, quick_settings

ALGORITHMS: list[Any] = ["auto", "direct", "fastest", "winograd", "fft"]
BOUNDS = {"float32": 1e-5, "float64": 1e-12}


@st.composite
def long_cases(draw: st.DrawFn) -> ConvCase:
    """Kernels of up to 40 taps along an axis, stride 1 most often, and padding up to their whole extent."""
    rank = draw(st.sampled_from([1, 1, 2, 2, 3]))
    most_taps, most = {1: (40, 150), 2: (9, 24), 3: (4, 9)}[rank]
    each: Any = {"min_size": rank, "max_size": rank}
    sizes = draw(st.lists(st.integers(1, most), **each))
    kernel = draw(st.lists(st.integers(1, most_taps), **each))
    dilation = draw(st.lists(st.sampled_from([1, 1, 1, 2, 3]), **each))
    stride = draw(st.lists(st.sampled_from([1, 1, 1, 1, 2]), **each))
    extents = [(taps - 1) * step + 1 for taps, step in zip(kernel, dilation, strict=True)]
    padding = [[draw(st.integers(0, extent)), draw(st.integers(0, extent))] for extent in extents]
    assume(all(size + sum(pair) >= extent for size, pair, extent in zip(sizes, padding, extents, strict=True)))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    group_channels, group_features = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    parameters: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    image = random.standard_normal((draw(st.integers(0, 2)), *sizes, group_channels * groups))
    weight = random.standard_normal((*kernel, group_channels, group_features * groups))
    output_shape = Conv(**parameters).output_shape(image.shape, weight.shape)
    bias = random.standard_normal(weight.shape[-1:]) if draw(st.booleans()) else None
    gradient = random.standard_normal(output_shape)
    if draw(st.booleans()):
        parameters["data_format"] = "channels_first"
        image, gradient = np.moveaxis(image, -1, 1), np.moveaxis(gradient, -1, 1)
        weight = np.moveaxis(weight, (-1, -2), (0, 1))
    return ConvCase(parameters, image, weight, bias, gradient)


def of_dtype(case: ConvCase, dtype: str) -> ConvCase:
    names = ("input", "weight", "grad_output")
    bias = None if case.bias is None else case.bias.astype(dtype)
    return dataclasses.replace(case, bias=bias, **{name: getattr(case, name).astype(dtype) for name in names})


def computed(case: ConvCase, algorithm: Any) -> dict[str, Any]:
    op = Conv(**case.parameters, algorithm=algorithm)
    gradients = op.backward(case.grad_output, case.input, case.weight, case.bias)
    return {"output": op.forward(case.input, case.weight, case.bias), **gradients._asdict()}


def assert_accurate(case: ConvCase, algorithm: Any, dtype: str) -> None:
    results, expected = computed(case, algorithm), tap_by_tap.conv(case)
    for name in RESULTS:
        assert results[name].dtype == dtype
        assert_near(results[name], getattr(expected, name), BOUNDS[dtype], expected.terms[name])


@settings(quick_settings, max_examples=40)
@given(
    long_cases(), st.sampled_from(ALGORITHMS), st.sampled_from(["float32", "float64"]), st.sampled_from([500, 2**20])
)
def test_every_algorithm_agrees(case: ConvCase, algorithm: Any, dtype: str, block_bytes: int) -> None:
    with small_blocks(block_bytes):
        assert_accurate(of_dtype(case, dtype), algorithm, dtype)


LONG: dict[str, tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]] = {
    "1-D": ({"padding": 500}, (2, 5000, 1), (1001, 1, 1)),
    "1-D of several blocks": ({}, (1, 300_000, 1), (401, 1, 2)),
    "1-D, dilated": ({"dilation": 3, "padding": [[0, 1200]]}, (2, 4000, 2), (450, 2, 2)),
    "1-D in groups": ({"groups": 3}, (2, 3000, 6), (500, 2, 6)),
    "2-D": ({"padding": 10}, (2, 90, 91, 2), (21, 22, 2, 3)),
    "2-D, as large as the image": ({"padding": [[3, 0], [0, 2]]}, (3, 40, 41, 2), (41, 40, 2, 2)),
    "depthwise": ({"padding": 12, "groups": 5}, (2, 50, 51, 5), (25, 24, 1, 5)),
    "3-D": ({"padding": 3}, (1, 17, 18, 19, 1), (8, 9, 7, 1, 2)),
    "3 x 3 of few channels": ({"padding": 1}, (2, 200, 201, 2), (3, 3, 2, 3)),
}


def long_case(name: str, dtype: str) -> ConvCase:
    parameters, input_shape, weight_shape = LONG[name]
    random = np.random.default_rng(0)
    output_shape = Conv(**parameters).output_shape(input_shape, weight_shape)
    shapes = (input_shape, weight_shape, weight_shape[-1:], output_shape)
    return ConvCase(parameters, *(random.standard_normal(shape).astype(dtype) for shape in shapes))


@pytest.mark.one_in(2)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LONG)
def test_large_layers(name: str, dtype: str) -> None:
    case = long_case(name, dtype)
    expected = tap_by_tap.conv(case)
    for algorithm in ("fastest", "fft"):
        results = computed(case, algorithm)
        for result in RESULTS:
            assert results[result].dtype == dtype
            assert_near(results[result], getattr(expected, result), BOUNDS[dtype], expected.terms[result])


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", LONG)
def test_transforms_are_taken_where_they_are_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """auto takes none in float64."""
    transforms: list[str] = []
    for function in ("fft", "fft2", "fftn", "rfft", "rfft2", "rfftn"):
        original: Any = getattr(np.fft, function)

        def counted(*arguments: Any, original: Any = original, **named: Any) -> Any:
            transforms.append("one")
            return original(*arguments, **named)

        monkeypatch.setattr(np.fft, function, counted)
    for dtype in ("float32", "float64"):
        case = long_case(name, dtype)
        Conv(**case.parameters, algorithm="fft").forward(case.input, case.weight)
        assert transforms
        transforms.clear()
        computed(case, "direct")
        computed(case, "fastest" if dtype == "float64" else "winograd")
        assert not transforms


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", ["1-D", "2-D", "depthwise"])
@pytest.mark.parametrize("operand", ["input", "weight", "grad_output"])
@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
def test_not_finite(odd: float, operand: str, name: str) -> None:
    """A transform makes NaN of all that it transforms; the layer has them where the products have them."""
    case = long_case(name, "float32")
    getattr(case, operand).reshape(-1)[getattr(case, operand).size // 3] = odd
    expected = tap_by_tap.conv(case)
    results = computed(case, "fft")
    for result in RESULTS:
        exact = getattr(expected, result)
        np.testing.assert_array_equal(np.isnan(results[result]), np.isnan(exact), err_msg=result)
        infinite = np.isinf(exact)
        np.testing.assert_array_equal(np.isinf(results[result]), infinite, err_msg=result)
        np.testing.assert_array_equal(results[result][infinite], exact[infinite], err_msg=result)
        finite = np.isfinite(exact)
        if finite.any():
            assert_near(results[result][finite], exact[finite], BOUNDS["float32"], expected.terms[result])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_transposed(algorithm: Any) -> None:
    case = long_case("2-D", "float32")
    expected = tap_by_tap.conv(dataclasses.replace(case, bias=None))
    op = ConvTranspose(**case.parameters, algorithm=algorithm)
    output, gradients = (
        op.forward(case.grad_output, case.weight),
        op.backward(case.input, case.grad_output, case.weight),
    )
    assert_near(output, expected.grad_input, BOUNDS["float32"], expected.terms["grad_input"])
    assert_near(gradients.grad_input, expected.output, BOUNDS["float32"], expected.terms["output"])
    assert_near(gradients.grad_weight, expected.grad_weight, BOUNDS["float32"], expected.terms["grad_weight"])
