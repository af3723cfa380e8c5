"""The examples of the notebook that convpool began as, sent as JSON, give the numbers that it printed or asserted."""

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from tests.clients import ApplicationClient


def post(client: ApplicationClient, path: str, **content: object) -> dict[str, NDArray[np.float64]]:
    answer = client.post(path, json=content)
    assert answer.status_code == 200, answer.text
    return {name: np.array(values) for name, values in answer.json().items()}


def draws(seed: int, *shapes: tuple[int, ...]) -> list[ArrayLike]:
    """Draw what the notebook drew after np.random.seed."""
    random = np.random.RandomState(seed)
    return [random.randn(*shape).tolist() for shape in shapes]


def test_convolution_of_a_single_pixel_in_padding_is_the_bias(client: ApplicationClient) -> None:
    image, weight, bias = draws(0, (1, 1, 1, 1), (1, 1, 1, 1), (1, 1, 1, 1))
    output = post(client, "/conv/forward", input=image, weight=weight, bias=bias, stride=2, padding=1)["output"]
    assert output.shape == (1, 2, 2, 1)
    np.testing.assert_allclose(output, 0.97873798, atol=5e-9)


def test_convolution_of_two_images_has_the_asserted_shape_and_the_loops_values(client: ApplicationClient) -> None:
    random = np.random.RandomState(0)
    random.randn(3)  # the single pixel's input, weight and bias
    image, weight, bias = random.randn(2, 9, 7, 3), random.randn(5, 5, 3, 4), random.randn(1, 1, 1, 4)
    operands = {"input": image.tolist(), "weight": weight.tolist(), "bias": bias.tolist()}
    output = post(client, "/conv/forward", **operands, stride=2, padding=1)["output"]
    assert output.shape == (2, 4, 3, 4)
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    for place in np.ndindex(2, 4, 3, 4):
        number, row, column, channel = place
        window = padded[number, 2 * row : 2 * row + 5, 2 * column : 2 * column + 5]
        assert output[place] == pytest.approx(np.sum(window * weight[..., channel]) + bias[0, 0, 0, channel])


def test_backward_of_convolution_gives_the_printed_gradient(client: ApplicationClient) -> None:
    # The notebook's forward ran with a stride of 3, left in a global, and its backward with a stride of 1: it used the
    # 3x3 outputs as the gradients of the first 3x3 windows out of 7x7.
    image, weight, bias = draws(1, (1, 5, 5, 3), (1, 1, 3, 3), (1, 1, 1, 3))
    operands = {"input": image, "weight": weight, "bias": bias, "padding": 1}
    grad_output = np.zeros((1, 7, 7, 3))
    grad_output[:, :3, :3] = post(client, "/conv/forward", **operands, stride=3)["output"]
    gradients = post(client, "/conv/backward", **operands, stride=1, grad_output=grad_output.tolist())
    printed = np.zeros((1, 5, 5, 3))
    printed[0, :2, :2] = [-0.99273423, 0.28542074, -0.29261403]
    printed[0, 0, 0] = [-5.49685242, 1.43976779, -0.65685065]
    np.testing.assert_allclose(gradients["grad_input"], printed, atol=5e-9)
    assert gradients["grad_weight"].shape == (1, 1, 3, 3)
    assert gradients["grad_bias"].shape == (1, 1, 1, 3)


def test_backward_without_padding_keeps_the_gradient(client: ApplicationClient) -> None:
    # the notebook's slice 0:-0 lost all of it
    image, weight = draws(1, (1, 5, 5, 3), (2, 2, 3, 4))
    grad_output = np.ones((1, 4, 4, 4))
    gradients = post(client, "/conv/backward", input=image, weight=weight, grad_output=grad_output.tolist())
    assert gradients["grad_input"].shape == (1, 5, 5, 3)
    sums = np.sum(weight, axis=-1)  # every window passes the same gradient to the taps that it covers
    np.testing.assert_allclose(gradients["grad_input"][0, 0, 0], sums[0, 0])
    np.testing.assert_allclose(gradients["grad_input"][0, 2, 2], sums.sum(axis=(0, 1)))


def test_max_pooling_gives_the_asserted_maxima(client: ApplicationClient) -> None:
    (image,) = draws(1, (1, 5, 5, 3))
    output = post(client, "/pool/forward", input=image, mode="max", kernel_size=3, stride=1)["output"]
    assert output.shape == (1, 3, 3, 3)
    np.testing.assert_allclose(output[0, 0, 0, :2], [1.74481176, 0.90159072], atol=5e-9)


def test_backward_of_max_pooling_gives_the_printed_gradient(client: ApplicationClient) -> None:
    image, grad_output = draws(1, (1, 4, 3, 2), (1, 3, 2, 2))
    parameters = {"mode": "max", "kernel_size": 2, "stride": 1, "ties": "all"}
    gradient = post(client, "/pool/backward", input=image, grad_output=grad_output, **parameters)["grad_input"]
    printed = np.zeros((1, 4, 3, 2))
    printed[0, 1, :, 0] = [0.63296787, 0.0, -0.81455098]
    printed[0, 1, 1, 1] = -1.48589535
    printed[0, 2, 1, 0] = -1.35841883
    printed[0, 3, 1, 1] = -0.85787024
    np.testing.assert_allclose(gradient, printed, atol=5e-9)
