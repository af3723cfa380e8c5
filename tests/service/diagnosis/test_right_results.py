"""The results of the oracles' loops pass the check of every layer, in every format, and nothing explains them away."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from service.diagnosis import CheckTask, diagnose
from service.operations.catalogue import CATALOGUE
from service.settings import Settings
from tests.clients import ApplicationClient
from tests.declarations import DECLARATIONS
from tests.declarations.declaration import Case, Declaration
from tests.oracle.windows import OracleError
from tests.service.payloads import ENCODERS, AnyArray
from tests.strategies import quick_settings

LAYERS = {entry.name: entry for entry in CATALOGUE}
each_declaration = pytest.mark.parametrize("declared", DECLARATIONS, ids=lambda declared: declared.name)


def request_of(declared: Declaration, case: Case) -> tuple[dict[str, Any], dict[str, AnyArray]]:
    """Parameters, and operands with what the oracle's loops compute from them."""
    parameters = {**({"mode": declared.mode} if declared.mode else {}), **case.parameters}
    tensors = dict(case.operands)
    claimed = declared.expected(case)
    if declared.op.differentiable and case.grad_output is not None:
        tensors["grad_output"] = case.grad_output
        claimed = {**claimed, **declared.expected_gradients(case)}
    return parameters, tensors | {f"claimed_{name}": array for name, array in claimed.items()}


def with_gradient(declared: Declaration, case: Case) -> Case:
    if case.grad_output is not None or not declared.op.differentiable:
        return case
    gradient = np.random.default_rng(5).standard_normal(declared.output_shape(case))
    return Case(case.parameters, case.operands, gradient)


@each_declaration
@quick_settings
@given(data=st.data())
def test_what_loops_compute_is_right(declared: Declaration, data: st.DataObject) -> None:
    try:
        parameters, tensors = request_of(
            declared,
            with_gradient(
                declared, data.draw(declared.cases if declared.moderate_cases is None else declared.moderate_cases)
            ),
        )
    except OracleError:  # of some gradients the rules say nothing
        reject()
    report = diagnose(LAYERS[declared.layer], parameters, tensors)
    wrong = {name: each for name, each in report["tensors"].items() if not each["agrees"]}
    assert not wrong
    assert report["agrees"] is True
    assert report["explanations"] == []


@each_declaration
@pytest.mark.parametrize("form", [form for form in ENCODERS if form != "npy"])
def test_every_format_can_be_checked(client: ApplicationClient, declared: Declaration, form: str) -> None:
    parameters, tensors = request_of(declared, with_gradient(declared, declared.example))
    response = client.post(f"/{declared.layer}/check", **ENCODERS[form](tensors, parameters))
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.json()["agrees"] is True


@each_declaration
def test_a_wrong_element_is_found(client: ApplicationClient, declared: Declaration) -> None:
    parameters, tensors = request_of(declared, with_gradient(declared, declared.example))
    for name in [name for name in tensors if name.startswith("claimed_")]:
        claimed = tensors[name].copy()
        place = tuple(size - 1 for size in claimed.shape)
        right = claimed[place].item()
        claimed[place] = right + 1
        response = client.post(f"/{declared.layer}/check", **ENCODERS["npz"]({**tensors, name: claimed}, parameters))
        assert response.status_code == 200, response.text
        report = response.json()
        assert report["agrees"] is False
        compared = report["tensors"][name.removeprefix("claimed_")]
        assert compared["elements_off"] == 1
        assert compared["first_difference"]["index"] == list(place)
        assert compared["first_difference"]["got"] == pytest.approx(right + 1)
        assert compared["first_difference"]["expected"] == pytest.approx(right)
        assert compared["max_absolute_error"] == pytest.approx(1)
        others = [each for other, each in report["tensors"].items() if f"claimed_{other}" != name]
        assert all(each["agrees"] for each in others)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_narrower_claim_is_judged_by_its_own_type(client: ApplicationClient, dtype: str) -> None:
    rounded = np.array([[[1.0], [1 / 3]]])
    import ml_dtypes

    own = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    tensors = {
        "input": np.array([[[1.0], [1.0 / 3]]]),
        "weight": np.ones((1, 1, 1)),
        "claimed_output": rounded.astype(own),
    }
    response = client.post("/conv/check", **ENCODERS["safetensors"](tensors, {}))
    assert response.status_code == 200, response.text
    report = response.json()
    assert report["agrees"] is True
    assert report["tensors"]["output"]["dtype"] == dtype
    assert 0 < report["tensors"]["output"]["max_ulps"] <= 0.5


def test_nan_and_infinities_must_be_where_they_belong(client: ApplicationClient) -> None:
    input = np.array([np.nan, 1.0, np.inf, -np.inf, 2.0]).reshape(1, 5, 1)
    tensors = {"input": input, "weight": np.ones((1, 1, 1))}
    for claimed, agrees in ((input, True), (np.nan_to_num(input), False), (-input, False), (input[:, ::-1], False)):
        response = client.post("/conv/check", **ENCODERS["npz"]({**tensors, "claimed_output": claimed}, {}))
        assert response.json()["agrees"] is agrees
    report = client.post("/conv/check", **ENCODERS["npz"]({**tensors, "claimed_output": -input}, {})).json()
    assert report["tensors"]["output"]["first_difference"] == {
        "index": [0, 1, 0],
        "got": -1.0,
        "expected": 1.0,
        "window": {"axes": [{"taps": [0], "input": [1], "padding": []}]},
    }
    nothing = client.post(
        "/conv/check", **ENCODERS["npz"]({**tensors, "claimed_output": np.zeros((1, 5, 1))}, {})
    ).json()
    assert nothing["tensors"]["output"]["max_absolute_error"] in {"NaN", "Infinity"}


def test_an_empty_batch_is_right(client: ApplicationClient) -> None:
    tensors = {"input": np.ones((0, 4, 1)), "weight": np.ones((2, 1, 3)), "claimed_output": np.ones((0, 3, 3))}
    assert client.post("/conv/check", **ENCODERS["npz"](tensors, {})).json()["agrees"] is True


def test_sums_in_a_coarser_type_may_be_asked_for(client: ApplicationClient) -> None:
    random = np.random.default_rng(0)
    input, weight = random.standard_normal((1, 9, 9, 8)), random.standard_normal((3, 3, 8, 4))
    windows = np.lib.stride_tricks.sliding_window_view(input[0], (3, 3), axis=(0, 1)).astype(np.float32)
    claimed = np.einsum("yxckl,klcf->yxf", windows, weight.astype(np.float32))[None].astype(np.float64)
    tensors = {"input": input, "weight": weight, "claimed_output": claimed}
    report = client.post("/conv/check", **ENCODERS["npz"](tensors, {})).json()
    assert report["agrees"] is False
    (explanation,) = report["explanations"]
    assert (explanation["id"], explanation["parameters"]) == ("float32_sums", {"accumulation": "float32"})
    again = client.post("/conv/check", **ENCODERS["npz"](tensors, explanation["parameters"])).json()
    assert again["agrees"] is True
    assert again["explanations"] == []
    assert again["tensors"]["output"]["tolerance"]["unit_roundoff"] == 2.0**-24


def test_only_what_nothing_explains_has_a_hint(client: ApplicationClient) -> None:
    tensors = {"input": np.arange(5.0).reshape(1, 5, 1), "weight": np.ones((2, 1, 1))}
    right, wrong = np.array([1.0, 3, 5, 7]), np.array([1.0, 3, 50, 7])
    for claimed, has_a_hint in ((right, False), (wrong, True)):
        response = client.post(
            "/conv/check", **ENCODERS["npz"]({**tensors, "claimed_output": claimed.reshape(1, 4, 1)}, {})
        )
        assert ("hint" in response.json()) is has_a_hint


def test_a_gradient_of_another_size_is_told_both_shapes(client: ApplicationClient) -> None:
    tensors = {"input": np.ones((1, 5, 1)), "weight": np.ones((2, 1, 1)), "grad_output": np.ones((1, 3, 1))}
    claimed = {"claimed_grad_bias": np.array([3.0])}
    report = client.post("/conv/check", **ENCODERS["npz"](tensors | claimed, {})).json()
    sentence = report["tensors"]["grad_bias"]["where"]["sentence"]
    assert "[1, 3, 1]" in sentence
    assert "[1, 4, 1]" in sentence


def test_a_plan_takes_no_memory_for_operands() -> None:
    """It is made before any memory is granted."""
    task, input = CheckTask(LAYERS["conv"], Settings().max_work), np.ones((1, 512, 512, 4), np.float32)
    tensors = {"input": input, "weight": np.ones((1, 1, 4, 4), np.float32), "claimed_output": input}
    tracemalloc.start()
    try:
        task.plan({}, tensors)
        assert tracemalloc.get_traced_memory()[1] < input.nbytes // 8
    finally:
        tracemalloc.stop()
