"""Errors name the name that is wrong, and say what was needed in its place."""

from __future__ import annotations

from typing import Any

import pytest

from service import healthcheck
from tests.clients import ApplicationClient, free_port

IMAGE = [[[[1], [2]], [[3], [4]]]]
JSON = {"Content-Type": "application/json"}


def errors(client: ApplicationClient, path: str, **options: Any) -> dict[str, dict[str, str]]:
    answer = client.post(path, **options)
    assert answer.status_code == 422, answer.text
    return {error["pointer"]: error for error in answer.json()["errors"]}


@pytest.mark.parametrize(
    ("path", "slip", "meant"),
    [
        ("/pool/forward", "mod", "mode"),
        ("/pool/forward", "kernelsize", "kernel_size"),
        ("/conv/forward", "weights", "weight"),
        ("/conv/backward", "grad_outputs", "grad_output"),
        ("/conv/shape", "shape", "shapes"),
    ],
)
def test_a_slip_is_named_with_what_was_meant(client: ApplicationClient, path: str, slip: str, meant: str) -> None:
    found = errors(client, path, json={slip: 1})
    assert f"did you mean {meant}?" in found[f"/{slip}"]["message"]


def test_a_member_that_stands_twice_is_refused(client: ApplicationClient) -> None:
    body = '{"mode": "max", "kernel_size": 1, "kernel_size" : 2, "input": [[[[1], [2]], [[3], [4]]]]}'
    assert list(errors(client, "/pool/forward", content=body, headers=JSON)) == ["/kernel_size"]


def test_names_within_values_do_not_count_as_standing_twice(client: ApplicationClient) -> None:
    tensor = {"dtype": "float64", "shape": [1, 2, 2, 1], "data": [1, 2, 3, 4]}
    weight = {**tensor, "shape": [2, 2, 1, 1]}
    gradient = {**tensor, "shape": [1, 1, 1, 1], "data": [1]}
    request = {
        "grad_output": gradient,
        "input": tensor,
        "weight": weight,
        "wrt": ["input", "weight"],
        "dtype": "float64",
    }
    assert client.post("/conv/backward", json=request).status_code == 200


def test_an_operand_in_the_query_string_is_sent_into_the_body(client: ApplicationClient) -> None:
    found = errors(client, "/pool/forward?input=1", json={"mode": "max", "kernel_size": 1})
    assert "body" in found["/input"]["message"]


def test_a_null_is_no_dtype(client: ApplicationClient) -> None:
    found = errors(client, "/pool/forward", json={"mode": "max", "kernel_size": 1, "input": IMAGE, "dtype": None})
    assert found["/dtype"]["got"] == "null"


def test_a_shape_call_says_what_a_shape_is(client: ApplicationClient) -> None:
    found = errors(
        client, "/conv/shape", json={"shapes": {"input": [1, 5, "2"], "bias": 4, "other": [1]}, "dtype": "f4"}
    )
    assert set(found) == {"/shapes/input", "/shapes/weight", "/shapes/bias", "/shapes/other", "/dtype"}
    assert found["/shapes/weight"]["got"] == "nothing"
    assert found["/shapes/bias"]["got"] == "4"
    assert found["/shapes/bias"]["expected"].startswith("a list of integers")


@pytest.mark.parametrize("filling", ["{}", '"a"'])
def test_floods_of_objects_and_strings_are_refused_unparsed(client: ApplicationClient, filling: str) -> None:
    body = '{"input": [' + ",".join([filling] * 100_000) + "]}"
    answer = client.post("/pool/forward", content=body, headers=JSON)
    assert answer.status_code == 400
    assert "more objects or strings" in answer.json()["detail"]


def test_the_health_check_tells_a_running_server_from_none(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVPOOL_PORT", server_url.rsplit(":", 1)[1])
    assert healthcheck.main() == 0
    monkeypatch.setenv("CONVPOOL_PORT", str(free_port()))
    assert healthcheck.main() == 1
