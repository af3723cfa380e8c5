"""How many products reach each cell."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.browser.playground.bare import Bare, tensor


def opened(
    bare: Bare, op: str, parameters: dict[str, Any], shapes: dict[str, tuple[int, ...]], **arrays: np.ndarray[Any, Any]
) -> None:
    """Open the map of a layer: of operands it takes the shapes, but for indices."""
    zeros = {name: np.zeros(shape) for name, shape in shapes.items()}
    tensors = {name: tensor(array) for name, array in (zeros | arrays).items()}
    bare.open("overlap", "Overlap", {"op": op, "parameters": parameters, "tensors": tensors, "view": "forward"}, True)
    bare.settled()


def axis_links(n: int, m: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> list[tuple[int, int]]:
    """On one axis: which of n elements is under a tap of which of m windows."""
    taps = itertools.product(range(m), range(kernel))
    pairs = [(window * stride + tap * dilation - padding, window) for window, tap in taps]
    return [(element, window) for element, window in pairs if 0 <= element < n]


def counts(size: int, places: list[int]) -> np.ndarray[Any, Any]:
    array = np.zeros(size)
    np.add.at(array, places, 1)
    return array


def shown(bare: Bare, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    cells = bare.grid(f"overlap-{name}")
    assert sorted(cells) == list(range(int(np.prod(shape))))
    return np.array([float(cells[index]) for index in range(len(cells))]).reshape(shape)


def words(bare: Bare, name: str) -> str:
    return bare.page.locator(f'[data-map="{name}"]').inner_text()


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), [(3, 2, 0, 1), (4, 2, 1, 1), (3, 1, 0, 2)])
def test_products_of_a_transposed_convolution(
    bare: Bare, kernel: int, stride: int, padding: int, dilation: int
) -> None:
    parameters = {"stride": stride, "padding": padding, "dilation": dilation, "groups": 2}
    shapes = {"input": (2, 5, 4, 2), "weight": (kernel, kernel, 1, 2)}
    opened(bare, "conv_transpose", parameters, shapes)
    extent = (kernel - 1) * dilation + 1
    sizes = [(n - 1) * stride + extent - 2 * padding for n in (5, 4)]
    links = [axis_links(size, n, kernel, stride, padding, dilation) for size, n in zip(sizes, (5, 4), strict=True)]
    forward = [counts(size, [element for element, _ in axis]) for size, axis in zip(sizes, links, strict=True)]
    backward = [counts(n, [window for _, window in axis]) for n, axis in zip((5, 4), links, strict=True)]
    np.testing.assert_array_equal(shown(bare, "output", tuple(sizes)), np.outer(*forward))
    np.testing.assert_array_equal(shown(bare, "grad_input", (5, 4)), np.outer(*backward))


def test_products_of_a_convolution_and_of_its_gradient(bare: Bare) -> None:
    opened(bare, "conv", {"stride": 2, "padding": 1}, {"input": (1, 7, 3), "weight": (3, 3, 4)})
    links = axis_links(7, 4, 3, 2, 1)
    np.testing.assert_array_equal(shown(bare, "output", (4,)), counts(4, [window for _, window in links]))
    np.testing.assert_array_equal(shown(bare, "grad_input", (7,)), counts(7, [element for element, _ in links]))
    assert "2 to 3 products" in words(bare, "output")
    assert "away from the edges it is 1 or 2, stripes" in words(bare, "grad_input")


def test_windows_of_a_pool_and_of_patches(bare: Bare) -> None:
    """Of a maximum there is no sum: what an average adds up over the same windows is counted."""
    parameters = {"mode": "max", "kernel_size": 3, "stride": 2, "ties": "all", "ceil_mode": True}
    opened(bare, "pool", parameters, {"input": (1, 6, 1)})
    links = axis_links(6, 3, 3, 2, 0)
    np.testing.assert_array_equal(shown(bare, "output", (3,)), counts(3, [window for _, window in links]))
    np.testing.assert_array_equal(shown(bare, "grad_input", (6,)), counts(6, [element for element, _ in links]))
    opened(bare, "unfold", {"kernel_size": 2}, {"input": (1, 4, 3, 1)})
    rows, columns = ([element for element, _ in axis_links(n, n - 1, 2, 1, 0)] for n in (4, 3))
    expected = np.outer(counts(4, rows), counts(3, columns))
    np.testing.assert_array_equal(shown(bare, "grad_input", (4, 3)), expected)


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
def test_products_of_patches_that_are_folded(bare: Bare, layout: str) -> None:
    """What lies in the padding goes nowhere."""
    sizes, kernel, stride, padding = (4, 5), (2, 3), (1, 2), (1, 0)
    windows = [(n + 2 * p - k) // s + 1 for n, k, s, p in zip(sizes, kernel, stride, padding, strict=True)]
    links = [axis_links(n, m, k, s, p) for n, m, k, s, p in zip(sizes, windows, kernel, stride, padding, strict=True)]
    parameters = {
        "data_format": layout, "output_size": list(sizes), "kernel_size": list(kernel), "stride": list(stride),
        "padding": [[p, p] for p in padding],
    }  # fmt: skip
    patches, columns = math.prod(windows), 2 * math.prod(kernel)
    shape = (2, patches, columns) if layout == "channels_last" else (2, columns, patches)
    opened(bare, "fold", parameters, {"input": shape})
    expected = np.outer(*(counts(n, [at for at, _ in axis]) for n, axis in zip(sizes, links, strict=True)))
    np.testing.assert_array_equal(shown(bare, "output", sizes), expected)
    taps = itertools.product(range(windows[0]), range(windows[1]), range(kernel[0]), range(kernel[1]))
    inside = np.array(
        [0 <= row * stride[0] + down - padding[0] < sizes[0] for row, _, down, _ in taps], dtype=float
    ).reshape(math.prod(windows), math.prod(kernel))
    expected = inside if layout == "channels_last" else inside.T
    np.testing.assert_array_equal(shown(bare, "grad_input", expected.shape), expected)
    assert "0 to 1 product." in words(bare, "grad_input")
    expect(bare.page.locator("[name=kernel], [name=stride]")).to_have_count(0)  # the patches are those of one kernel


def test_values_that_are_put_where_indices_say(bare: Bare) -> None:
    """The indices of ONNX count through the batch; of two values for one place, the last one is there."""
    indices = np.array([[[[0, 5], [10, 15]]], [[[16, 31], [20, 20]]]])
    opened(
        bare, "unpool", {"framework": "onnx", "kernel_size": 2, "stride": 2}, {"input": indices.shape}, indices=indices
    )
    output = np.zeros(32)
    output[indices.ravel()] = 1
    np.testing.assert_array_equal(shown(bare, "output", (2, 1, 4, 4)).ravel(), output)
    assert shown(bare, "grad_input", indices.shape).ravel().tolist() == [1, 1, 1, 1, 1, 1, 0, 1]
    for name in ("output", "grad_input"):
        assert words(bare, name).endswith("0 to 1 product.")  # of what no windows decide, none is even
    expect(bare.page.locator("[name=kernel], [name=stride]")).to_have_count(0)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_products_of_quantized_numbers(bare: Bare, dtype: str) -> None:
    """Whatever the zero points and the scales are: not they are counted."""
    arrays = {
        "input": np.zeros((2, 7, 6, 4), dtype),
        "input_scale": np.array(0.5),
        "input_zero_point": np.array(3, dtype),
        "weight": np.zeros((3, 2, 2, 6), np.int8),
        "weight_scale": np.linspace(0.25, 2, 6),
        "weight_zero_point": np.zeros(6, np.int8),
        "output_scale": np.array(0.125),
        "output_zero_point": np.array(100, dtype),
        "bias": np.full(6, 50, np.int32),
    }
    opened(bare, "qlinear_conv", {"stride": 2, "padding": 1, "groups": 2}, {}, **arrays)
    links = [axis_links(n, 4, k, 2, 1) for n, k in ((7, 3), (6, 2))]
    expected = np.outer(*(counts(4, [window for _, window in axis]) for axis in links))
    np.testing.assert_array_equal(shown(bare, "output", (4, 4)), expected)
    expect(bare.page.locator(".overlap-map")).to_have_count(1)  # it has no gradients
    bare.page.select_option("[name=kernel]", "4")
    bare.settled()
    links = [axis_links(n, m, 4, 2, 1) for n, m in ((7, 3), (6, 3))]
    expected = np.outer(*(counts(3, [window for _, window in axis]) for axis in links))
    np.testing.assert_array_equal(shown(bare, "output", (3, 3)), expected)


def test_kernel_3_and_stride_2_is_uneven_and_kernel_4_even(bare: Bare) -> None:
    opened(bare, "conv_transpose", {"stride": 2}, {"input": (1, 5, 5, 1), "weight": (3, 3, 1, 1)})
    assert "Uneven: away from the edges it is 1, 2 or 4, a checkerboard." in words(bare, "output")
    bare.look("overlap")
    bare.page.select_option("[name=kernel]", "4")
    bare.settled()
    assert "1 to 4 products" in words(bare, "output")
    assert "Even: away from the edges it is always 4." in words(bare, "output")
    bare.page.select_option("[name=stride]", "3")
    bare.settled()
    assert "Uneven" in words(bare, "output")
    assert bare.evaluate("context.state.parameters") == {"stride": 2}  # the picture itself is left alone


def test_it_follows_the_picture(bare: Bare) -> None:
    opened(bare, "conv_transpose", {"stride": 2}, {"input": (1, 3, 1), "weight": (3, 1, 1)})
    assert shown(bare, "output", (7,)).tolist() == [1, 1, 2, 1, 2, 1, 1]
    bare.evaluate("context.change({ parameters: { stride: 1 } })")
    bare.settled()
    assert shown(bare, "output", (5,)).tolist() == [1, 2, 3, 2, 1]


def test_what_is_refused_is_said(bare: Bare) -> None:
    opened(bare, "conv", {}, {"input": (1, 3, 1), "weight": (3, 1, 1)})
    bare.page.select_option("[name=kernel]", "5")
    bare.settled()
    expect(bare.page.get_by_role("alert")).to_contain_text("5")
    bare.page.select_option("[name=kernel]", "2")
    bare.settled()
    expect(bare.page.get_by_role("alert")).to_have_count(0)
    assert shown(bare, "output", (2,)).tolist() == [2, 2]
