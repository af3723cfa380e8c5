"""Sizes and parameters up to 2^31 - 1: predicting takes few steps and no memory, for every op."""

from __future__ import annotations

import itertools
import tracemalloc
from typing import Any

import pytest

from cnn_core import ConvpoolError
from service.operations.catalogue import OPERATIONS
from tests.interpreter import at_most_lines

LARGEST = 2**31 - 1
SIZES = (4, 10**6 + 3, LARGEST)
COUNTS = (1, 2, 7, 10**6 + 3, 2**30, LARGEST)
MAX_LINES = 20_000
MAX_BYTES = 2**20

FORWARD = {operation.entry.name: operation for operation in OPERATIONS if operation.direction == "forward"}

Case = tuple[str, dict[str, Any], dict[str, tuple[int, ...]]]


def adaptive_cases(rank: int) -> list[Case]:
    cases: list[Case] = []
    for size, count in itertools.product(SIZES, COUNTS):
        shape = {"input": (2, *[size] * rank, 3)}
        cases.extend(("pool", {"mode": mode, "output_size": count}, shape) for mode in ("max", "avg", "lp"))
        indices = {"return_indices": True, "index_scheme": "tensor", "storage_order": "column_major"}
        cases.append(("pool", {"mode": "max", "output_size": count, **indices}, shape))
        cases.append(("unpool", {"output_size": count}, shape))
        cases.append(("unpool", {"output_size": LARGEST, "kernel_size": count, "framework": "onnx"}, shape))
        weight = {"weight": (*[2] * rank, 1, 3)}
        cases.append(("conv_transpose", {"output_size": count}, shape | weight))
        onnx = {"output_size": count, "framework": "onnx", "data_format": "channels_last"}
        cases.append(("conv_transpose", onnx, shape | weight))
        for kernel in (1, count):
            spaced = {"kernel_size": kernel, "stride": LARGEST, "padding": LARGEST}
            cases.append(("fold", {"output_size": [count] * rank, **spaced}, {"input": (2, 3**rank, kernel)}))
    return cases


def window_cases(rank: int) -> list[Case]:
    cases: list[Case] = []
    kernels, strides, paddings, dilations = (1, 3, 2**30, LARGEST), (1, 3, LARGEST), (0, 3, 2**30, "same"), (1, 2**30)
    for size, kernel, stride, padding, dilation in itertools.product(SIZES, kernels, strides, paddings, dilations):
        shape = {"input": (2, *[size] * rank, 3)}
        spaced = {"stride": stride, "padding": padding}
        windows = {**spaced, "dilation": dilation, "kernel_size": kernel}
        cases.extend(("pool", {"mode": mode, "ceil_mode": True, **windows}, shape) for mode in ("max", "avg", "lp"))
        cases.append(("pool", {"mode": "avg", "count_include_pad": True, **windows}, shape))
        cases.append(("unfold", windows, shape))
        cases.append(("unpool", {**spaced, "kernel_size": kernel}, shape))
        weighted = shape | {"weight": (*[kernel] * rank, 3, 3)}
        spread = {**spaced, "dilation": dilation}
        modes = ("zeros", "reflect", "replicate", "circular")
        cases.extend(("conv", {**spread, "padding_mode": mode}, weighted) for mode in modes)
        cases.append(("conv_transpose", {**spread, "output_padding": stride - 1 if padding != "same" else 0}, weighted))
        cases.append(("conv_integer", spread, weighted))
        rest = ("input_scale", "input_zero_point", "weight_scale", "weight_zero_point", "output_scale")
        scalars: dict[str, tuple[int, ...]] = dict.fromkeys((*rest, "output_zero_point"), ())
        cases.append(("qlinear_conv", spread, weighted | scalars))
    return cases


def predict(case: Case) -> None:
    """Everything that is done before a request is refused; a call that is no layer is refused too."""
    name, parameters, shapes = case
    entry = FORWARD[name].entry
    try:
        op = entry.choose(parameters)(**{key: value for key, value in parameters.items() if key != "mode"})
        layer = entry.resolve(op, shapes)
    except ConvpoolError:
        return
    entry.resolved_parameters(op, layer, 8)
    costs = layer.costs()
    for cost in (costs.forward, *costs.backward.values()):
        # Python's integers never overflow
        assert type(cost.work) is int
        assert type(cost.workspace_elements) is int
        assert min(cost.work, cost.workspace_elements) >= 0


each_nth_case = pytest.mark.parametrize("every", [23, pytest.param(1, marks=pytest.mark.exhaustive)])


@each_nth_case
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("cases", [adaptive_cases, window_cases])
def test_predicting_takes_few_steps(cases: Any, rank: int, every: int) -> None:
    for case in cases(rank)[::every]:
        with at_most_lines(MAX_LINES):
            predict(case)


@each_nth_case
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("cases", [adaptive_cases, window_cases])
def test_predicting_takes_no_memory(cases: Any, rank: int, every: int) -> None:
    made = cases(rank)[::every]
    tracemalloc.start()
    try:
        for case in made:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            predict(case)
            assert tracemalloc.get_traced_memory()[1] - before < MAX_BYTES, case
    finally:
        tracemalloc.stop()
