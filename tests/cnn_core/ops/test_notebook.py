"""The notebook that this project comes from: its own loops and the numbers that it prints, against cnn_core.

The functions are transcribed with their slips repaired, and with nothing else changed in what they compute: stride and
padding are arguments where the notebook reads globals, the padding is cut off without 0:-0, the input is the argument,
and the size is rounded down instead of towards zero.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_core import Conv, MaxPool
from tests.comparisons import assert_close
from tests.oracle.windows import AnyArray, Array
from tests.strategies import quick_settings

notebook_settings = settings(quick_settings, max_examples=20)


# --------------------------------------------------------------------------------------------- the notebook's functions


def convolve_forward(input: AnyArray, weight: AnyArray, bias: AnyArray, stride: int, pad: int) -> Array:
    images, height, width, _ = input.shape
    filter_size, _, _, filters = weight.shape
    new_height = (height - filter_size + 2 * pad) // stride + 1
    new_width = (width - filter_size + 2 * pad) // stride + 1
    output = np.zeros((images, new_height, new_width, filters))
    for image in range(images):
        padded = np.pad(input[image], ((pad, pad), (pad, pad), (0, 0)))
        for h in range(new_height):
            top = stride * h
            for w in range(new_width):
                left = stride * w
                window = padded[top : top + filter_size, left : left + filter_size, :]
                for channel in range(filters):
                    total = np.sum(np.multiply(window, weight[:, :, :, channel]))
                    output[image, h, w, channel] = total + bias[0, 0, 0, channel]
    return output


def convolve_backward(
    grad_output: AnyArray, input: AnyArray, weight: AnyArray, bias: AnyArray, *, stride: int, pad: int
) -> tuple[Array, Array, Array]:
    images, height, width, _ = input.shape
    filter_size = weight.shape[0]
    _, new_height, new_width, filters = grad_output.shape
    grad_input, grad_weight, grad_bias = np.zeros(input.shape), np.zeros(weight.shape), np.zeros(bias.shape)
    for image in range(images):
        padded = np.pad(input[image], ((pad, pad), (pad, pad), (0, 0)))
        padded_gradient = np.zeros(padded.shape)
        for h in range(new_height):
            top = stride * h
            for w in range(new_width):
                left = stride * w
                for channel in range(filters):
                    arriving = grad_output[image, h, w, channel]
                    window = padded[top : top + filter_size, left : left + filter_size, :]
                    padded_gradient[top : top + filter_size, left : left + filter_size, :] += (
                        weight[:, :, :, channel] * arriving
                    )
                    grad_weight[:, :, :, channel] += window * arriving
                    grad_bias[:, :, :, channel] += arriving
        grad_input[image] = padded_gradient[pad : pad + height, pad : pad + width, :]
    return grad_input, grad_weight, grad_bias


def pooling_forward(input: AnyArray, filter_size: int, stride: int) -> Array:
    images, height, width, channels = input.shape
    new_height = (height - filter_size) // stride + 1
    new_width = (width - filter_size) // stride + 1
    output = np.zeros((images, new_height, new_width, channels))
    for image in range(images):
        for h in range(new_height):
            top = stride * h
            for w in range(new_width):
                left = stride * w
                for channel in range(channels):
                    window = input[image, top : top + filter_size, left : left + filter_size, channel]
                    output[image, h, w, channel] = np.max(window)
    return output


def pooling_backward(grad_output: AnyArray, input: AnyArray, filter_size: int, stride: int) -> Array:
    images, new_height, new_width, channels = grad_output.shape
    grad_input = np.zeros(input.shape)
    for image in range(images):
        for h in range(new_height):
            top = stride * h
            for w in range(new_width):
                left = stride * w
                for channel in range(channels):
                    window = input[image, top : top + filter_size, left : left + filter_size, channel]
                    mask = window == np.max(window)
                    grad_input[image, top : top + filter_size, left : left + filter_size, channel] += (
                        mask * grad_output[image, h, w, channel]
                    )
    return grad_input


# ------------------------------------------------------------------------------------------------------ random operands


@notebook_settings
@given(
    seed=st.integers(0, 2**32 - 1),
    filter_size=st.integers(1, 4),
    stride=st.integers(1, 3),
    pad=st.integers(0, 2),
    more=st.tuples(st.integers(0, 4), st.integers(0, 4)),
)
def test_convolution(seed: int, filter_size: int, stride: int, pad: int, more: tuple[int, int]) -> None:
    random = np.random.default_rng(seed)
    least = max(1, filter_size - 2 * pad)
    input = random.standard_normal((2, least + more[0], least + more[1], 3))
    weight = random.standard_normal((filter_size, filter_size, 3, 2))
    bias = random.standard_normal((1, 1, 1, 2))
    conv = Conv(stride=stride, padding=pad)
    output = convolve_forward(input, weight, bias, stride, pad)
    assert_close(conv.forward(input, weight, bias), output)
    grad_output = random.standard_normal(output.shape)
    grad_input, grad_weight, grad_bias = convolve_backward(grad_output, input, weight, bias, stride=stride, pad=pad)
    gradients = conv.backward(grad_output, input, weight, bias)
    assert_close(gradients.grad_input, grad_input)
    assert_close(gradients.grad_weight, grad_weight)
    assert_close(gradients.grad_bias, grad_bias)


@notebook_settings
@given(
    seed=st.integers(0, 2**32 - 1),
    filter_size=st.integers(1, 4),
    stride=st.integers(1, 3),
    more=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    with_ties=st.booleans(),
)
def test_pooling(seed: int, filter_size: int, stride: int, more: tuple[int, int], with_ties: bool) -> None:
    random = np.random.default_rng(seed)
    shape = (2, filter_size + more[0], filter_size + more[1], 2)
    input = random.integers(-1, 2, size=shape).astype(np.float64) if with_ties else random.standard_normal(shape)
    pool = MaxPool(kernel_size=filter_size, stride=stride, ties="all")
    output = pooling_forward(input, filter_size, stride)
    assert_close(pool.forward(input), output, 0)
    grad_output = random.standard_normal(output.shape)
    assert_close(pool.backward(grad_output, input), pooling_backward(grad_output, input, filter_size, stride))


# --------------------------------------------------------------------------------------------- the notebook's own cells


def seeded(seed: int) -> np.random.RandomState:
    """The generator behind np.random.seed, without its global state."""
    return np.random.RandomState(seed)


def test_cell_70_convolution_forward() -> None:
    random = seeded(0)
    input, weight, bias = random.randn(1, 1, 1, 1), random.randn(1, 1, 1, 1), random.randn(1, 1, 1, 1)
    assert [input.item(), weight.item(), bias.item()] == pytest.approx([1.76405235, 0.40015721, 0.97873798], abs=5e-9)
    output = Conv(stride=2, padding=1).forward(input, weight, bias)
    # Every window of the 2 x 2 lies in the padding: the value is the bias.
    assert output.shape == (1, 2, 2, 1)
    assert output.reshape(-1).tolist() == pytest.approx([0.97873798] * 4, abs=5e-9)

    input, weight, bias = random.randn(2, 9, 7, 3), random.randn(5, 5, 3, 4), random.randn(1, 1, 1, 4)
    output = Conv(stride=2, padding=1).forward(input, weight, bias)
    assert output.shape == (2, 4, 3, 4)
    assert_close(output, convolve_forward(input, weight, bias, 2, 1))


def test_cell_78_convolution_backward() -> None:
    """The numbers that the notebook shows of grad_input.

    Its forward ran with stride 3 (the global filter_size), its backward with the global stride 1: the gradient has
    3 x 3 positions where stride 1 and padding 1 have 7 x 7. In our terms grad_output is zero everywhere else.
    """
    random = seeded(1)
    input, weight, bias = random.randn(1, 5, 5, 3), random.randn(1, 1, 3, 3), random.randn(1, 1, 1, 3)
    output = Conv(stride=3, padding=1).forward(input, weight, bias)
    assert output.shape == (1, 3, 3, 3)
    grad_output = np.zeros((1, 7, 7, 3))
    grad_output[:, :3, :3] = output
    gradients = Conv(stride=1, padding=1).backward(grad_output, input, weight, bias)

    corner, bias_only = [-5.49685242, 1.43976779, -0.65685065], [-0.99273423, 0.28542074, -0.29261403]
    expected = np.zeros((1, 5, 5, 3))
    expected[0, 0, 0] = corner
    expected[0, 0, 1] = expected[0, 1, 0] = expected[0, 1, 1] = bias_only
    assert_close(gradients.grad_input, expected, 5e-9)

    # The loops take the 3 x 3 gradient as it is.
    grad_input, grad_weight, grad_bias = convolve_backward(output, input, weight, bias, stride=1, pad=1)
    assert_close(gradients.grad_input, grad_input)
    assert_close(gradients.grad_weight, grad_weight)
    assert_close(gradients.grad_bias, grad_bias)
    assert grad_bias.shape == (1, 1, 1, 3)


def test_cell_43_pooling_forward() -> None:
    input = seeded(1).randn(1, 5, 5, 3)
    assert input[0, 0, 0].tolist() == pytest.approx([1.62434536, -0.61175641, -0.52817175], abs=5e-9)
    output = MaxPool(kernel_size=3, stride=1).forward(input)
    assert output.shape == (1, 3, 3, 3)
    assert output[0, 0, 0, :2].tolist() == pytest.approx([1.74481176, 0.90159072], abs=5e-9)
    assert_close(output, pooling_forward(input, 3, 1), 0)


def test_cell_66_pooling_backward() -> None:
    random = seeded(1)
    input, grad_output = random.randn(1, 4, 3, 2), random.randn(1, 3, 2, 2)
    grad_input = MaxPool(kernel_size=2, stride=1, ties="all").backward(grad_output, input)
    printed = np.zeros((1, 4, 3, 2))
    printed[0, 1] = [[0.63296787, 0], [0, -1.48589535], [-0.81455098, 0]]
    printed[0, 2, 1, 0] = -1.35841883
    printed[0, 3, 1, 1] = -0.85787024
    assert_close(grad_input, printed, 5e-9)
    for other in (MaxPool(kernel_size=2, stride=1), MaxPool(kernel_size=2, stride=1, ties="split")):
        assert_close(other.backward(grad_output, input), printed, 5e-9)  # none of its values tie
