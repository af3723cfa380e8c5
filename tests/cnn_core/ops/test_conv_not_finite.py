"""Infinities and NaN in a convolution: padding is zeros, whatever algorithm computes it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cnn_core import Conv

Array = NDArray[np.float64]
SHAPES = {
    "one group": (1, (3, 2, 2)),
    "depthwise": (2, (3, 1, 2)),
    "depthwise with a multiplier": (2, (3, 1, 4)),
    "two groups of two channels": (2, (3, 2, 4)),
}


def operands(groups: int, weight_shape: tuple[int, ...]) -> tuple[Array, Array]:
    random = np.random.default_rng(0)
    return random.normal(size=(2, 5, weight_shape[1] * groups)), random.normal(size=weight_shape)


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize(("groups", "weight_shape"), SHAPES.values(), ids=SHAPES.keys())
def test_padding_is_multiplied_like_zeros_in_the_input(groups: int, weight_shape: tuple[int, ...], odd: float) -> None:
    image, weight = operands(groups, weight_shape)
    weight[0, 0, 0] = odd
    padded = np.pad(image, ((0, 0), (1, 1), (0, 0)))
    output = Conv(groups=groups, padding=1).forward(image, weight)
    np.testing.assert_allclose(output, Conv(groups=groups).forward(padded, weight))
    assert np.isnan(output[0, 0, 0])  # 0 times an infinity

    grad_output = np.ones(output.shape)
    grad_output[0, 0, 0] = odd
    padded_gradients = Conv(groups=groups).backward(grad_output, padded, weight)
    gradients = Conv(groups=groups, padding=1).backward(grad_output, image, weight)
    assert gradients.grad_input is not None
    assert padded_gradients.grad_input is not None
    np.testing.assert_allclose(np.asarray(gradients.grad_weight), np.asarray(padded_gradients.grad_weight))
    np.testing.assert_allclose(gradients.grad_input, padded_gradients.grad_input[:, 1:-1])


@pytest.mark.parametrize("taps", [1024, 1025])
def test_depthwise_of_few_and_of_many_taps_agree_with_single_channels(taps: int) -> None:
    random = np.random.default_rng(0)
    image, weight = random.normal(size=(1, 1500, 2)), random.normal(size=(taps, 1, 2))
    both: dict[str, Any] = {"padding": [[3, 2]]}
    output = Conv(groups=2, **both).forward(image, weight)
    gradients = Conv(groups=2, **both).backward(np.ones(output.shape), image, weight)
    assert gradients.grad_weight is not None
    for channel in range(2):
        one_image, one_weight = image[..., [channel]], weight[..., [channel]]
        np.testing.assert_allclose(output[..., [channel]], Conv(**both).forward(one_image, one_weight))
        alone = Conv(**both).backward(np.ones((*output.shape[:-1], 1)), one_image, one_weight)
        np.testing.assert_allclose(gradients.grad_weight[..., [channel]], np.asarray(alone.grad_weight))
