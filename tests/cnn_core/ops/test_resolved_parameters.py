"""The resolved parameters of a layer, given again, make the same layer."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from cnn_core import AvgPool, Conv, ConvpoolError, ConvTranspose, Fold, LpPool, MaxPool, MaxUnpool, Unfold

FRAMEWORKS = (None, "torch", "tensorflow", "onnx", "jax")


def require_round_trip(op: Any, *shapes: Any) -> None:
    layer = op.resolve(*shapes)
    resolved = op.resolved_parameters(layer)
    again = type(op)(**resolved)
    assert again.resolve(*shapes).windows == layer.windows
    assert again.resolve(*shapes).result_shapes == layer.result_shapes
    assert again.resolved_parameters(again.resolve(*shapes)) == resolved
    assert None not in resolved.values()


@pytest.mark.one_in(7)
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
            op.resolve((1, 3, 1), (kernel, 1, 1))
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
    assert op.resolved_parameters(op.resolve((1, 3, 4, 1), (2, 3, 1, 1)))["output_padding"] == (3, 2)


# Input, kernel and stride of channels-last layers; which algorithm "fastest" takes in float32, forward and backward.
LAYERS_OF_ALGORITHMS = [
    ((1, 40, 40, 32), (3, 3, 32, 32), 1, "winograd", "winograd"),
    ((1, 40, 40, 31), (3, 3, 31, 32), 1, "direct", "direct"),
    ((4, 40, 40, 32), (5, 5, 32, 32), 2, "direct", "winograd"),  # phases of its gradient have 3 x 3 taps
    ((1, 900, 1), (300, 1, 2), 1, "fft", "fft"),
    ((1, 900, 1), (299, 1, 2), 1, "direct", "direct"),
    ((1, 40, 40, 32), (1, 1, 32, 32), 1, "direct", "direct"),
]


@pytest.mark.parametrize(("input", "weight", "stride", "forward", "backward"), LAYERS_OF_ALGORITHMS)
def test_the_algorithm_that_is_taken_is_named(
    input: Any, weight: Any, stride: int, forward: str, backward: str
) -> None:
    def named(algorithm: Any, itemsize: int, direction: Any) -> Any:
        op = Conv(stride=stride, algorithm=algorithm)
        return op.resolved_parameters(op.resolve(input, weight), itemsize, direction)["algorithm"]

    assert (named("fastest", 4, "forward"), named("fastest", 4, "backward")) == (forward, backward)
    for algorithm, itemsize in (("auto", 4), ("auto", 8), ("direct", 4), ("fastest", 8)):
        assert named(algorithm, itemsize, "forward") == "direct"
        assert named(algorithm, itemsize, "backward") == "direct"


@pytest.mark.parametrize(("input", "weight", "stride"), [layer[:3] for layer in LAYERS_OF_ALGORITHMS])
@pytest.mark.parametrize("op_type", [Conv, ConvTranspose])
def test_the_algorithm_that_is_named_gives_the_same_bits(
    op_type: type[Conv | ConvTranspose], input: Any, weight: Any, stride: int
) -> None:
    random = np.random.default_rng(0)
    op = op_type(stride=stride, algorithm="fastest")
    operands = [random.standard_normal(shape, dtype=np.float32) for shape in (input, weight)]
    if op_type is ConvTranspose:  # its input has the channels that the convolution puts out
        operands[0] = random.standard_normal((*input[:-1], weight[-1]), dtype=np.float32)
    layer = op.resolve(*(operand.shape for operand in operands))
    output = op.forward(*operands)
    again = op_type(**op.resolved_parameters(layer, 4, "forward"))
    assert again.forward(*operands).tobytes() == output.tobytes()
    again = op_type(**op.resolved_parameters(layer, 4, "backward"))
    for found, expected in zip(again.backward(output, *operands), op.backward(output, *operands), strict=True):
        assert found is not None
        assert expected is not None
        assert found.tobytes() == expected.tobytes()
