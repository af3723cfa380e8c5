"""How many products reach each cell."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.browser.playground.bare import Bare, tensor


def opened(bare: Bare, op: str, parameters: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
    tensors = {name: tensor(np.zeros(shape)) for name, shape in shapes.items()}
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
