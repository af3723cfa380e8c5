"""A service below a prefix, behind a proxy that takes the prefix off paths or leaves it there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.settings import Settings
from tests.clients import ApplicationClient, application_client, running_server
from tests.service.test_access import answer

PREFIX = "/tools/convpool"
BODY = {"mode": "max", "kernel_size": 2, "input": [[[[1], [2]], [[3], [4]]]]}
INFERENCE = {
    "inputs": [{"name": "input", "shape": [1, 4, 1], "datatype": "FP32", "data": [1, 3, 2, 4]}],
    "parameters": {"mode": "max", "kernel_size": 2},
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_server("--root-path", PREFIX) as (base_url, _):
        yield base_url


@pytest.mark.parametrize("kept", ["", PREFIX])
def test_everything_is_found_below_a_prefix(url: str, kept: str) -> None:
    """As a proxy asks for it that takes the prefix off, or that leaves it there."""
    with httpx.Client(base_url=url + kept) as client:
        assert client.post("/pool/forward", json=BODY).json() == {"output": [[[[4.0]]]]}
        assert client.post("/v2/models/pool_forward/infer", json=INFERENCE).status_code == 200
        for path in ("/", "/docs", "/openapi.json", "/ops", "/v2", "/health/ready"):
            assert client.get(path).status_code == 200
        for path in ("/playground/service.js", "/static-offline-docs/swagger-ui.css"):
            assert client.get(path).status_code == 200
        assert client.get("/nothing").headers["content-type"] == "application/problem+json"
        assert set(client.get("/v2/nothing").json()) == {"error"}


@pytest.mark.parametrize("kept", ["", PREFIX])
def test_redirects_stay_below_the_prefix(url: str, kept: str) -> None:
    """A browser resolves them against the address that it asked for, which has the prefix once."""
    asked = httpx.URL(f"https://public.example{PREFIX}")
    with httpx.Client(base_url=url + kept, headers={"Host": "public.example", "X-Forwarded-Proto": "https"}) as client:
        for path, target in (("/docs/", "/docs"), ("/ops/", "/ops"), ("/v2/", "/v2")):
            response = client.get(path)
            assert response.is_redirect
            seen = httpx.URL(str(asked) + path).join(response.headers["location"])
            assert str(seen) == str(asked) + target


@pytest.mark.parametrize("prefix", ["/conv", "/v2", "/docs", "/v2/models", "/examples"])
def test_a_prefix_like_a_path_of_the_service_must_be_taken_off(prefix: str) -> None:
    with application_client(create_app(Settings(root_path=prefix))) as client:
        for path in ("/ops", "/docs/", "/v2", "/examples/conv_forward/request.json", "/openapi.json"):
            assert status(client, prefix, prefix + path) < 400


def status(client: ApplicationClient, prefix: str, path: str) -> int:
    scope: dict[str, Any] = {"method": "GET", "path": path, "raw_path": path.encode(), "root_path": prefix}
    return client.call(lambda app: answer(app, scope)).status


def test_a_prefix_is_taken_off_once() -> None:
    with application_client(create_app(Settings(root_path="/a"))) as client:
        found = {path: status(client, "/a", path) for path in ("/a/ops", "/a/a/ops", "/a/a/a/ops", "/a/ax/ops", "/a/a")}
    assert found == {"/a/ops": 200, "/a/a/ops": 200, "/a/a/a/ops": 404, "/a/ax/ops": 404, "/a/a": 404}
