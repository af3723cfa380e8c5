"""The resolved parameters of a layer, given again, make the same layer."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from cnn_core import AvgPool, Conv, ConvpoolError, ConvTranspose, Fold, LpPool, MaxPool, MaxUnpool, Unfold

FRAMEWORKS = (None, "torch", "tensorflow", "onnx", "jax")


def require_round_trip(op: Any, *shapes: Any) -> None:
    layer = op.layer(*shapes)
    resolved = op.resolved_parameters(layer)
    again = type(op)(**resolved)
    assert again.layer(*shapes).windows == layer.windows
    assert again.layer(*shapes).result_shapes == layer.result_shapes
    assert again.resolved_parameters(again.layer(*shapes)) == resolved
    assert None not in resolved.values()


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("padding", [0, 1, "valid", "same", "same_lower", ((0, 2),)])
def test_of_a_transposed_convolution(framework: Any, padding: Any) -> None:
    accepted = 0
    values = itertools.product([1, 2, 3, 5], [1, 2, 4], [1, 2, 3], [0, 1, 2, None], [None, 4, 6, 9])
    for stride, dilation, kernel, output_padding, output_size in values:
        parameters = {"stride": stride, "dilation": dilation, "output_size": output_size, "padding": padding}
        if output_padding is not None:  # else it is left to the framework
            parameters["output_padding"] = output_padding
        try:
            op: Any = ConvTranspose(framework=framework, data_format="channels_last", **parameters)
            op.layer((1, 3, 1), (kernel, 1, 1))
        except ConvpoolError:
            continue
        require_round_trip(op, (1, 3, 1), (kernel, 1, 1))
        accepted += 1
    assert accepted > 30


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("padding", [0, 1, "same", "same_lower"])
def test_of_the_others(framework: Any, padding: Any) -> None:
    common = {"framework": framework, "data_format": "channels_last", "padding": padding}
    input = (2, 7, 5, 6)
    require_round_trip(Conv(**common, stride=2, padding_mode="reflect"), input, (3, 3, 6, 4))
    for pool in (MaxPool, AvgPool, LpPool):
        require_round_trip(pool(**common, kernel_size=3), input)
        require_round_trip(pool(framework=framework, data_format="channels_last", output_size=(2, 4)), input)
    require_round_trip(MaxPool(framework=framework, output_size=2, return_indices=True), (2, 3, 4, 5, 6))
    require_round_trip(MaxUnpool(**common, kernel_size=3), input, input)
    require_round_trip(MaxUnpool(**common, kernel_size=2, stride=2, output_size=20), input, input)
    require_round_trip(Unfold(**common, kernel_size=3), input)
    matrix = Unfold(**common, kernel_size=3).output_shape(input)
    require_round_trip(Fold(**common, kernel_size=3, output_size=(7, 5)), matrix)


def test_what_a_framework_adds_to_a_transposed_convolution_is_said() -> None:
    op = ConvTranspose(framework="tensorflow", stride=5)
    assert op.resolved_parameters(op.layer((1, 3, 4, 1), (2, 3, 1, 1)))["output_padding"] == (3, 2)
