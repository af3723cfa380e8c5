"""The helper for other people's test suites."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from cnn_core import Conv, MaxPool
from convpool.client import Cases, Client
from convpool.testing import OPS, assert_layer_matches
from service.operations.catalogue import CATALOGUE
from tests.client.golden import REPORT, archive, case_of, conv_case


def forward(input: Any, weight: Any, bias: Any, **parameters: Any) -> Any:
    return Conv(**parameters).forward(input, weight, bias)


def backward(grad_output: Any, input: Any, weight: Any, bias: Any, **parameters: Any) -> Any:
    return Conv(**parameters).backward(grad_output, input, weight, bias)


def asked(*requests: httpx.Request) -> tuple[Client, list[httpx.Request]]:
    """A client of a server that gives the recorded report, and what it was sent."""
    sent = list(requests)

    def respond(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json=REPORT)

    return Client("http://server", transport=httpx.MockTransport(respond)), sent


def test_the_operands_of_every_layer_are_known() -> None:
    assert {name: op.operands for name, op in OPS.items()} == {entry.name: entry.operands for entry in CATALOGUE}


def test_a_layer_that_is_right_passes(tmp_path: Path) -> None:
    path = tmp_path / "cases.npz"
    path.write_bytes(archive())
    assert_layer_matches(forward, path)
    assert_layer_matches(forward, str(path), backward=backward)
    assert_layer_matches(None, path.read_bytes(), backward=backward)
    assert_layer_matches(forward, Cases.load(path))


@pytest.mark.parametrize(
    "returned",
    [
        lambda gradients: gradients,
        tuple,
        list,
        lambda gradients: gradients._asdict(),
        lambda gradients: {"grad_weight": gradients.grad_weight.tolist(), "grad_input": None},
    ],
)
def test_results_may_come_in_any_form(returned: Callable[[Any], Any]) -> None:
    assert_layer_matches(None, archive(), backward=lambda *operands, **given: returned(backward(*operands, **given)))
    client, _ = asked()
    with pytest.raises(AssertionError, match="grad_weight: "):
        assert_layer_matches(
            None,
            archive(),
            backward=lambda grad, *others, **given: returned(backward(2 * grad, *others, **given)),
            client=client,
        )


def test_a_difference_says_which_case_where_and_what_it_looks_like() -> None:
    def wrong(input: Any, weight: Any, bias: Any, **parameters: Any) -> Any:
        output = forward(input, weight, bias, **parameters)
        if parameters["stride"] == [4]:
            output[1, 0, 2] += 0.5
        return output

    client, sent = asked()
    with pytest.raises(AssertionError) as raised:
        assert_layer_matches(wrong, archive(), client=client)
    first, case, count, where, given, asked_of, *report = str(raised.value).splitlines()
    assert first == "1 of 3 cases of conv differ"
    assert case == "case_0001: stride over kernel"
    assert count == "  output: 1 of 16 elements are off"
    assert where.startswith("    first at [1, 0, 2]: got ")
    assert given == "  stride=[4]"
    assert asked_of == "what convpool says of case_0001:"
    assert "  explains output: The padding is on the other side." in report
    (request,) = sent
    assert request.url.path == "/conv/check"
    assert dict(request.url.params) == {"stride": "[4]"}
    members = np.load(io.BytesIO(request.content))
    assert set(members) == {"input", "weight", "grad_output", "claimed_output"}


def test_many_differences_are_counted_not_listed() -> None:
    client, _ = asked()
    with pytest.raises(AssertionError) as raised:
        assert_layer_matches(lambda *_, **__: np.zeros(3), archive(*map(conv_case, range(9))), client=client)
    text = str(raised.value)
    assert text.startswith("9 of 9 cases of conv differ\n")
    assert text.count("its shape is (3,), and should be (2, 8, 4)") == 5
    assert "and 4 more" in text


@pytest.mark.parametrize(
    ("expected", "got", "agrees"),
    [
        (1.0, 1.0 + 1e-9, True),
        (1.0, 1.0 + 1e-7, False),
        (np.nan, np.nan, True),
        (np.nan, 1.0, False),
        (1.0, np.nan, False),
        (np.inf, np.inf, True),
        (np.inf, -np.inf, False),
        (np.inf, 1e300, False),
        (0.0, -0.0, True),
    ],
)
def test_what_agrees(expected: float, got: float, agrees: bool) -> None:
    case = conv_case(0, tolerance=1e-8)
    case["results"] = {"output": np.array([2.0, expected])}
    client, sent = asked()
    try:
        assert_layer_matches(lambda *_, **__: [2.0, got], archive(case), client=client)
    except AssertionError:
        assert not agrees
        assert len(sent) == 1
    else:
        assert agrees
        assert not sent


def test_what_is_exact_must_be_equal() -> None:
    image = np.array([[[1.0], [3.0], [2.0], [3.0]]])
    case = case_of("max", {"input": image}, {"kernel_size": [2], "return_indices": True}, tolerance=0.0)
    content = archive(case, layer="pool")
    assert_layer_matches(lambda x, **given: MaxPool(**given).forward(x), content)
    client, _ = asked()
    with pytest.raises(AssertionError, match=r"indices: 1 of 2 elements are off\n.*got 2, expected 3, exactly"):
        assert_layer_matches(lambda *_, **__: ([[[3], [3]]], [[[1], [2]]]), content, client=client)


def test_an_error_of_a_function_names_the_case() -> None:
    def broken(*_: Any, stride: Any) -> Any:
        if stride == [4]:
            raise RuntimeError("mine")
        return {}

    with pytest.raises(RuntimeError, match="mine") as raised:
        assert_layer_matches(broken, archive())
    assert raised.value.__notes__ == ["called for case_0001 with stride=[4]"]


def test_what_cannot_be_compared_is_no_success() -> None:
    with pytest.raises(ValueError, match="none has results of a function that was given"):
        assert_layer_matches(None, archive())
    with pytest.raises(ValueError, match="none has results of a function that was given"):
        assert_layer_matches(lambda *_, **__: {}, archive())
    with pytest.raises(ValueError, match="the results of this layer are output; the function returned result"):
        assert_layer_matches(lambda *_, **__: {"result": 1}, archive())


def test_without_anyone_to_ask_a_difference_is_still_one() -> None:
    def respond(_: httpx.Request) -> httpx.Response:
        return httpx.Response(404)

    client = Client("http://server", transport=httpx.MockTransport(respond))
    with pytest.raises(AssertionError, match=r"(?s)3 of 3 cases.*nothing: Not Found \(404\)"):
        assert_layer_matches(lambda *_, **__: 0, archive(), client=client)
