"""Checks of whatever a client may claim: an answer or a refusal, within the memory and the work that were predicted."""

from __future__ import annotations

import random
import re
import tracemalloc
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import orjson
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from cnn_core import Cancelled, ConvpoolError, ConvTranspose
from cnn_core.runtime import workspace
from service.diagnosis import CheckTask, diagnose
from service.diagnosis.layer import Layer
from service.diagnosis.search import WORK_OF_ATTEMPT
from service.diagnosis.task import MIN_SEARCH_WORK
from service.problems import RequestProblem
from service.settings import Settings
from tests.cnn_core.stopping import StopsAt
from tests.comparisons import normal
from tests.declarations.declaration import Declaration
from tests.oracle.windows import OracleError
from tests.service.diagnosis.test_right_results import LAYERS, each_declaration, request_of, with_gradient
from tests.service.document import DOCUMENT, checked_by
from tests.strategies import quick_settings

AnyArray = np.ndarray[Any, Any]
Tensors = Mapping[str, AnyArray]

REPORT = DOCUMENT["paths"]["/conv/check"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
TYPES = ("float64", "float32", "float16", ml_dtypes.bfloat16, "int8", "uint8", "int32", "int64", "uint64")
SPECIALS = (np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, 0.0, 3.0)
FEW_ATTEMPTS = 100 * WORK_OF_ATTEMPT
OVERHEAD = 2**19
"""Bytes of objects, and of NumPy's own buffers."""


def resized(draw: random.Random, array: AnyArray) -> AnyArray:
    sizes = [max(0, size + draw.choice((-1, 0, 0, 1))) for size in array.shape]
    return np.random.default_rng(draw.randrange(9)).standard_normal(sizes)


def special(draw: random.Random, array: AnyArray) -> AnyArray:
    changed = array.astype(np.float64)
    changed.reshape(-1)[draw.randrange(array.size) if array.size and draw.random() < 0.5 else slice(None)] = (
        draw.choice(SPECIALS)
    )
    return changed


def exchanged(draw: random.Random, array: AnyArray) -> AnyArray:
    changed = array.copy()
    flat = changed.reshape(-1)
    if flat.size:
        one, other = draw.randrange(flat.size), draw.randrange(flat.size)
        flat[one], flat[other] = flat[other], flat[one]
    return changed


DAMAGES: tuple[Callable[[random.Random, AnyArray], AnyArray], ...] = (
    resized,
    special,
    exchanged,
    lambda draw, array: array.astype(draw.choice(TYPES)),
    lambda _draw, array: array[None],
    lambda _draw, array: array.reshape(-1),
    lambda _draw, array: array.T,
    lambda _draw, _array: np.ones(()),
    lambda _draw, array: np.roll(array, 1),
    lambda draw, array: array * draw.choice((2.0, -1.0, 1e300, 1e-300)),
    lambda _draw, array: np.zeros((0, *array.shape[1:])),
)


def damaged(draw: random.Random, tensors: Tensors) -> dict[str, AnyArray]:
    found: dict[str, AnyArray] = {}
    for name, tensor in tensors.items():
        often = 0.7 if name.startswith("claimed_") else 0.1
        found[name] = draw.choice(DAMAGES)(draw, tensor) if draw.random() < often else tensor
    return found


@each_declaration
@settings(quick_settings, max_examples=8)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_whatever_is_claimed_is_answered_or_refused(declared: Declaration, data: st.DataObject, seed: int) -> None:
    try:
        parameters, tensors = request_of(declared, with_gradient(declared, data.draw(declared.cases)))
    except OracleError:  # the gradient of a norm that is not finite
        reject()
    with np.errstate(all="ignore"):
        hostile = damaged(random.Random(seed), tensors)
    task = CheckTask(LAYERS[declared.layer], FEW_ATTEMPTS)
    try:
        report = task.compute(task.plan(parameters, hostile), hostile)
    except (RequestProblem, ConvpoolError):
        return
    checked_by(REPORT).validate(orjson.loads(orjson.dumps(report)))
    for each in report.get("explanations", []):
        left_out = {name for name, value in each["parameters"].items() if value is None}
        assert left_out <= set(parameters)  # null only for what was given
        each["parameters"] = {name: value for name, value in each["parameters"].items() if name not in left_out}
    assert not re.search(rb"[:,[]null", orjson.dumps(report))  # a sentence may say "output_size null"


@pytest.mark.parametrize(
    ("layer", "parameters", "tensors"),
    [
        pytest.param(
            "pool",
            {"mode": "avg", "output_size": 1},
            {
                "input": np.ones((0, 6, 1)),
                "grad_output": np.ones((0, 1, 1)),
                "claimed_output": np.ones((0, 2, 1)),
            },
            id="no image, in a gradient of which one position is taken",
        ),
        pytest.param(
            "conv",
            {},
            {
                "input": np.ones((0, 6, 1)),
                "weight": np.ones((2, 1, 2)),
                "grad_output": np.ones((0, 5, 2)),
                "claimed_grad_bias": np.ones(2),
            },
            id="no image, in a gradient that is not summed",
        ),
        pytest.param(
            "conv",
            {},
            {
                "input": np.full((1, 4, 1), 1e-300),
                "weight": np.ones((2, 1, 1)),
                "claimed_output": np.full((1, 3, 1), 1e300),
            },
            id="a factor beyond what float64 holds",
        ),
        pytest.param(
            "conv",
            {"stride": [2, 2], "padding": 1, "data_format": "channels_first"},
            {
                "input": normal(3, 3, 5, 6, seed=1),
                "weight": normal(2, 3, 2, 3, seed=2),
                "bias": normal(2, seed=3),
                "claimed_output": normal(3, 2, 6, 6, seed=4),
            },
            id="a bias for each product of another stride",
        ),
        pytest.param(
            "conv",
            {},
            {
                "input": np.ones((1, 3, 1)),
                "weight": np.ones((2, 1, 1)),
                "grad_output": np.ones((1, 2, 1)),
                "claimed_grad_bias": np.ones(()),
            },
            id="a gradient without axes",
        ),
        pytest.param(
            "unpool",
            {"output_size": 3},
            {
                "input": normal(1, 2, 1, seed=1),
                "indices": np.arange(2).reshape(1, 2, 1),
                "claimed_output": normal(1, 3, 1, seed=2),
            },
            id="a difference beyond the last window of a pooling that is undone",
        ),
    ],
)
def test_what_was_once_a_server_error_is_answered(layer: str, parameters: dict[str, Any], tensors: Tensors) -> None:
    assert diagnose(LAYERS[layer], parameters, tensors)["agrees"] is False


GARBAGE: tuple[tuple[str, dict[str, Any], Tensors], ...] = (
    (
        "conv",
        {"stride": [2, 2, 2], "padding": [[1, 2], [1, 0], [1, 0]], "dilation": [2, 1, 1]},
        {
            "input": normal(2, 4, 3, 3, 1, seed=1),
            "weight": normal(2, 2, 2, 1, 3, seed=2),
            "bias": normal(3, seed=3),
            "claimed_output": normal(2, 3, 1, 1, 3, seed=4),
        },
    ),
    (
        "pool",
        {"mode": "avg", "kernel_size": [3, 3, 1], "dilation": 1, "ceil_mode": True, "divisor_override": -2},
        {
            "input": normal(1, 3, 4, 3, 2, seed=1),
            "grad_output": normal(1, 1, 2, 3, 2, seed=2),
            "claimed_grad_input": normal(1, 3, 4, 5, 2, seed=3),
        },
    ),
)
each_garbage = pytest.mark.parametrize(("layer", "parameters", "tensors"), GARBAGE, ids=lambda value: str(value)[:20])


@each_garbage
def test_a_small_request_leads_to_a_bounded_number_of_attempts(
    monkeypatch: pytest.MonkeyPatch, layer: str, parameters: dict[str, Any], tensors: Tensors
) -> None:
    attempts, changed = 0, Layer.changed

    def counted(self: Layer, *arguments: Any) -> Layer:
        nonlocal attempts
        attempts += 1
        return changed(self, *arguments)

    monkeypatch.setattr(Layer, "changed", counted)
    report = diagnose(LAYERS[layer], parameters, tensors)
    assert report["agrees"] is False
    assert 50 < attempts <= 2 * MIN_SEARCH_WORK // WORK_OF_ATTEMPT
    assert report["tried"]["complete"] is False


@each_garbage
def test_a_search_stops_at_each_of_its_attempts(layer: str, parameters: dict[str, Any], tensors: Tensors) -> None:
    task = CheckTask(LAYERS[layer], Settings().max_work)
    plan = task.plan(parameters, tensors)
    task.compute(plan, tensors)  # what is remembered between computations takes checks the first time only
    with StopsAt() as token:
        report = task.compute(plan, tensors)
    assert token.checks > report["tried"]["hypotheses"]
    # the last one first: what is remembered of a computation that stopped early may save a check
    for check in (token.checks, token.checks // 2, 1):
        with pytest.raises(Cancelled), StopsAt(check):
            task.compute(plan, tensors)


LARGER: tuple[tuple[str, str, dict[str, Any], Tensors], ...] = (
    (
        "stride 1 in place of a large stride",
        "conv",
        {"stride": 256},
        {
            "input": normal(1, 256, 256, 1, seed=1),
            "weight": normal(1, 1, 1, 32, seed=2),
            "claimed_output": normal(1, 1, 1, 32, seed=3),
        },
    ),
    (
        "a copy with its padding",
        "pool",
        {"mode": "max", "kernel_size": 2001, "stride": 2000, "padding": 1000},
        {"input": normal(1, 2, 2, 1, seed=1), "claimed_output": normal(1, 1, 1, 1, seed=2)},
    ),
    (
        "the gradient of an output that padding makes large",
        "conv",
        {"padding": 10**6},
        {
            "input": normal(1, 1, 1, seed=1),
            "weight": normal(1, 1, 1, seed=2),
            "grad_output": normal(1, 1, 1, seed=3),
            "claimed_grad_input": normal(1, 1, 1, seed=4),
        },
    ),
    (
        "a loop over windows of many output channels",
        "conv_transpose",
        {"stride": 2},
        {
            "input": normal(1, 50, 50, 1, seed=1),
            "weight": normal(3, 3, 200, 1, seed=2),
            "claimed_output": normal(1, 2, 2, 2, seed=3),
        },
    ),
)


@pytest.mark.parametrize(("layer", "parameters", "tensors"), [pytest.param(*case, id=name) for name, *case in LARGER])
def test_memory_stays_within_the_prediction(
    monkeypatch: pytest.MonkeyPatch, layer: str, parameters: dict[str, Any], tensors: Tensors
) -> None:
    monkeypatch.setattr(workspace, "MAX_KEPT_BYTES", 0)
    task = CheckTask(LAYERS[layer], Settings().max_work)
    plan = task.plan(parameters, tensors)
    tracemalloc.start()
    try:
        task.compute(plan, tensors)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= plan.prediction.result_bytes + plan.prediction.workspace_bytes + OVERHEAD


def test_an_explanation_asks_to_leave_out_only_what_was_given() -> None:
    tensors = {"input": normal(1, 4, 5, 2, seed=1), "weight": normal(3, 3, 2, 2, seed=2)}
    tensors["claimed_output"] = ConvTranspose(padding=((0, 2), (1, 1))).forward(tensors["input"], tensors["weight"])
    report = diagnose(LAYERS["conv_transpose"], {"padding": 1}, tensors)
    assert "padding" in report["explanations"][0]["parameters"]
    assert all(None not in each["parameters"].values() for each in report["explanations"])
