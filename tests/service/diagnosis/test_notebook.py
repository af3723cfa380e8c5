"""The notebook's own functions, run as they are: right where they are right, and their faults are named.

A reader of the notebook sends what its functions computed to POST /{layer}/check.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnn_core.errors import ConvpoolError
from service.diagnosis import diagnose
from service.operations.catalogue import CATALOGUE
from tests.mistakes.layers import AnyArray
from tests.mistakes.notebook import bias_of, notebook

ENTRIES = {entry.name: entry for entry in CATALOGUE}
SEEDS = range(10)
FEW_SEEDS = range(5)


class Convolution:
    """A random layer of the notebook's kind, and its operands as a request has them."""

    def __init__(
        self, seed: int, *, stride: int, pad: int, kernel: tuple[int, int] = (3, 3), size: tuple[int, int] = (7, 6)
    ) -> None:
        random = np.random.default_rng(seed)
        self.stride, self.pad = stride, pad
        self.input = random.standard_normal((2, *size, 3))
        self.weight = random.standard_normal((*kernel, 3, 2))
        self.bias = bias_of(random.standard_normal(2))
        positions = [(n + 2 * pad - k) // stride + 1 for n, k in zip(size, kernel, strict=True)]
        self.grad_output = random.standard_normal((2, *positions, 2))

    def forward(self) -> AnyArray:
        output: AnyArray = notebook()["convolve_forward"](self.input, self.weight, self.bias, self.stride, self.pad)[0]
        return output

    def backward(self, **globals_of_its_cells: int) -> dict[str, AnyArray]:
        functions = notebook(**globals_of_its_cells)
        gradients = functions["convolve_backward"](self.grad_output, self.input, self.weight, self.bias)
        return dict(zip(("grad_input", "grad_weight", "grad_bias"), gradients, strict=True))

    def check(self, **claimed: AnyArray) -> dict[str, Any]:
        tensors = {
            "input": self.input,
            "weight": self.weight,
            "bias": np.asarray(self.bias),
            **({"grad_output": self.grad_output} if any(name.startswith("grad") for name in claimed) else {}),
            **{f"claimed_{name}": np.asarray(tensor) for name, tensor in claimed.items()},
        }
        return diagnose(ENTRIES["conv"], {"stride": self.stride, "padding": self.pad}, tensors)


class Pooling:
    """The same of its pooling, whose input may tie."""

    def __init__(self, seed: int, *, ties: bool = False) -> None:
        random = np.random.default_rng(seed)
        shape = (2, 6, 7, 2)
        self.input = random.integers(-1, 2, shape).astype(np.float64) if ties else random.standard_normal(shape)
        self.other_input = random.standard_normal(shape)
        self.grad_output = random.standard_normal((2, 5, 6, 2))

    def forward(self) -> AnyArray:
        output: AnyArray = notebook()["pooling_forward"](self.input, 2, 1)
        return output

    def backward(self, global_input: AnyArray) -> AnyArray:
        gradient: AnyArray = notebook(A_prev=global_input)["pooling_backward"](self.grad_output, self.input, 2, 1)
        return gradient

    def check(self, ties: str = "first", **claimed: AnyArray) -> dict[str, Any]:
        tensors = {"input": self.input, "grad_output": self.grad_output}
        claims = {f"claimed_{name}": tensor for name, tensor in claimed.items()}
        parameters = {"mode": "max", "kernel_size": 2, "stride": 1, "ties": ties}
        return diagnose(ENTRIES["pool"], parameters, tensors | claims)


def named(answer: dict[str, Any]) -> str:
    assert not answer["agrees"]
    first: dict[str, Any] = answer["explanations"][0]
    assert first["agrees"]
    return str(first["id"])


# ------------------------------------------------------------------------------------------------------------ the right


@pytest.mark.parametrize("seed", FEW_SEEDS)
@pytest.mark.parametrize(("stride", "pad"), [(1, 0), (2, 0), (1, 1), (2, 2), (3, 1)])
def test_the_forward_pass_is_right(seed: int, stride: int, pad: int) -> None:
    layer = Convolution(seed, stride=stride, pad=pad)
    answer = layer.check(output=layer.forward())
    assert answer["agrees"]
    assert answer["explanations"] == []


@pytest.mark.parametrize("seed", FEW_SEEDS)
@pytest.mark.parametrize(("stride", "pad"), [(1, 1), (2, 2), (3, 1)])
def test_the_backward_pass_is_right_with_padding_and_the_right_globals(seed: int, stride: int, pad: int) -> None:
    layer = Convolution(seed, stride=stride, pad=pad)
    answer = layer.check(**layer.backward(stride=stride, pad=pad))
    assert answer["agrees"]
    assert answer["explanations"] == []


@pytest.mark.parametrize("seed", SEEDS)
def test_pooling_is_right_without_ties(seed: int) -> None:
    pool = Pooling(seed)
    answer = pool.check(output=pool.forward(), grad_input=pool.backward(pool.input))
    assert answer["agrees"]
    assert answer["explanations"] == []


def test_pooling_is_right_with_ties_if_every_maximum_is_meant_to_have_the_gradient() -> None:
    pool = Pooling(0, ties=True)
    assert pool.check(ties="all", grad_input=pool.backward(pool.input))["agrees"]


# ----------------------------------------------------------------------------------------------------------- the faults


def test_the_backward_pass_fails_without_padding() -> None:
    """Padding 0 is cut off by the slice 0:-0, which has no element: there is nothing that could be sent to check."""
    layer = Convolution(0, stride=1, pad=0)
    with pytest.raises(ValueError, match="could not broadcast"):
        layer.backward(stride=1, pad=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_global_stride_of_another_cell_is_named(seed: int) -> None:
    layer = Convolution(seed, stride=2, pad=1)
    assert named(layer.check(**layer.backward(stride=1, pad=1))) in {"stride_one", "stride_off_by_one"}


@pytest.mark.parametrize("seed", FEW_SEEDS)
def test_a_forward_pass_of_another_stride_than_the_backward_pass_is_named(seed: int) -> None:
    """As in the notebook's own cell: forward with filter_size for a stride, backward with the global stride 1."""
    forward, backward = (Convolution(seed, stride=stride, pad=1) for stride in (3, 1))
    backward.grad_output = forward.grad_output
    gradients = backward.backward(stride=1, pad=1)
    answer = backward.check(**gradients)
    assert named(answer) == "grad_output_shape"
    (explanation,) = answer["explanations"]
    assert "[2, 3, 2, 2]" in explanation["sentence"]
    assert "[2, 7, 6, 2]" in explanation["sentence"]
    assert named(forward.check(**gradients)) == "stride_one"


def test_both_passes_of_another_stride_than_the_request_has_are_told_of_the_stride() -> None:
    computed, asked = (Convolution(0, stride=stride, pad=1) for stride in (2, 1))
    asked.grad_output = computed.grad_output
    claimed = {"output": computed.forward(), **computed.backward(stride=2, pad=1)}
    first = asked.check(**claimed)["explanations"][0]
    assert (first["parameters"], set(first["tensors"])) == ({"stride": [2, 2]}, set(claimed))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_global_padding_of_another_cell_is_named(seed: int) -> None:
    layer = Convolution(seed, stride=2, pad=1)
    assert "padding" in named(layer.check(**layer.backward(stride=2, pad=2)))


@pytest.mark.parametrize("seed", SEEDS)
def test_ties_are_named(seed: int) -> None:
    pool = Pooling(seed, ties=True)
    assert named(pool.check(output=pool.forward(), grad_input=pool.backward(pool.input))) == "ties_all"


@pytest.mark.parametrize("seed", FEW_SEEDS)
def test_an_input_of_another_cell_is_noticed_and_nothing_else_is_accused(seed: int) -> None:
    """The gradient goes to the maxima of another tensor, which nothing in the request can explain."""
    pool = Pooling(seed)
    answer = pool.check(output=pool.forward(), grad_input=pool.backward(pool.other_input))
    assert answer["tensors"]["output"]["agrees"]
    assert not answer["tensors"]["grad_input"]["agrees"]
    assert [one["id"] for one in answer["explanations"] if one["agrees"]] == []


@pytest.mark.parametrize("seed", FEW_SEEDS)
def test_an_oblong_kernel_is_taken_for_a_square_one_as_wide(seed: int) -> None:
    """filter_size is unpacked twice, so the height of the kernel is lost; a slice of a window then fits no kernel."""
    layer = Convolution(seed, stride=1, pad=0, kernel=(2, 3))
    with pytest.raises(ValueError, match="could not be broadcast"):
        layer.forward()


def test_a_kernel_of_height_one_is_repeated_over_a_square_window() -> None:
    """A height of 1 broadcasts over the square window: the sum is over the window, and the size is a square's."""
    layer = Convolution(0, stride=1, pad=0, kernel=(1, 3))
    answer = layer.check(output=layer.forward())
    assert answer["tensors"]["output"]["shape"] == {"got": [2, 5, 4, 2], "expected": [2, 7, 4, 2]}
    assert not answer["agrees"]


def test_a_window_larger_than_the_input_is_rounded_towards_zero() -> None:
    """int(-1 / 2) is 0, where it is rounded down: the notebook makes a window, whose only row takes part twice."""
    layer = Convolution(0, stride=2, pad=0, kernel=(2, 2), size=(1, 6))
    output = layer.forward()
    assert output.shape == (2, 1, 3, 2)
    with pytest.raises(ConvpoolError, match="window"):
        layer.check(output=output)
