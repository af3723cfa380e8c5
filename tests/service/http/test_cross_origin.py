"""Web pages of other origins: none may call the service unless its origin is configured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from service.app import create_app
from service.settings import Settings
from tests.clients import ApplicationClient, application_client, running_server

PAGE, OTHER_PAGE = "https://lessons.example.org", "http://localhost:3000"
KEY = "a-key-of-the-tests-0123456789"
BODY = {"mode": "max", "kernel_size": 2, "input": [[[[1], [2]], [[3], [4]]]]}
EXPOSED = {
    *("convpool-parameters", "retry-after", "server-timing", "x-request-id"),
    "inference-header-content-length",
}
PATHS = ["/conv/forward", "/v2/models/conv_forward/infer", "/pool/shape", "/ops", "/openapi.json", "/nothing"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApplicationClient]:
    """A service that two origins may call, with a key."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(KEY)
    settings = Settings(cors_origins=f"{PAGE}, {OTHER_PAGE.upper()}", api_keys_file=str(keys))
    with application_client(create_app(settings)) as client:
        yield client


def asked(client: ApplicationClient | httpx.Client, path: str, origin: str, method: str = "POST", *headers: str) -> Any:
    """The response to what a browser asks before a page's request."""
    fields = {"Origin": origin, "Access-Control-Request-Method": method}
    fields |= {"Access-Control-Request-Headers": ",".join(headers)} if headers else {}
    return client.request("OPTIONS", path, headers=fields)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("origin", [PAGE, OTHER_PAGE])
def test_a_browser_may_ask_without_a_key(shared: ApplicationClient, path: str, origin: str) -> None:
    for method in ("POST", "GET"):
        response = asked(shared, path, origin, method, "authorization", "content-type", "x-request-id")
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == origin
        assert method in response.headers["access-control-allow-methods"].split(", ")
        allowed = response.headers["access-control-allow-headers"].lower()
        assert {"authorization", "content-type", "x-request-id"} <= set(allowed.split(","))
        assert "access-control-allow-credentials" not in response.headers


@pytest.mark.parametrize(("origin", "method"), [("https://example.org", "POST"), ("null", "GET"), (PAGE, "DELETE")])
def test_other_origins_and_methods_are_refused(shared: ApplicationClient, origin: str, method: str) -> None:
    response = asked(shared, "/conv/forward", origin, method)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers.get("access-control-allow-origin") == (PAGE if origin == PAGE else None)
    assert origin == PAGE or origin not in response.text


@pytest.mark.parametrize("key", [KEY, "wrong"])
@pytest.mark.parametrize("path", ["/pool/forward", "/ops", "/nothing"])
def test_a_page_can_read_results_and_errors(shared: ApplicationClient, key: str, path: str) -> None:
    headers = {"Authorization": f"Bearer {key}", "X-Request-ID": "the-same-in-all-responses"}
    of_page = shared.post(path, json=BODY, headers={**headers, "Origin": PAGE})
    assert of_page.headers["access-control-allow-origin"] == PAGE
    assert set(of_page.headers["access-control-expose-headers"].lower().split(", ")) >= EXPOSED
    assert "origin" in of_page.headers["vary"].lower()
    alone = shared.post(path, json=BODY, headers=headers)
    assert (of_page.status_code, of_page.content) == (alone.status_code, alone.content)
    assert "access-control-allow-origin" not in alone.headers
    of_another = shared.post(path, json=BODY, headers={**headers, "Origin": "https://example.org"})
    assert "access-control-allow-origin" not in of_another.headers


def test_small_results_have_the_headers_over_a_real_connection_too() -> None:
    """There they are sent past ASGI's messages."""
    with running_server("--cors-origins", "*") as (base_url, _), httpx.Client(base_url=base_url) as client:
        for _repeated in range(3):
            response = client.post("/pool/forward", json=BODY, headers={"Origin": PAGE})
            assert response.json() == {"output": [[[[4.0]]]]}
            assert response.headers["access-control-allow-origin"] == "*"
            assert "convpool-parameters" in response.headers["access-control-expose-headers"].lower()
            assert "access-control-allow-origin" not in client.post("/pool/forward", json=BODY).headers
        assert asked(client, "/conv/forward", "null").headers["access-control-allow-origin"] == "*"


def test_no_origin_is_allowed_by_default(client: ApplicationClient) -> None:
    for response in (
        client.post("/pool/forward", json=BODY, headers={"Origin": PAGE}),
        asked(client, "/pool/forward", PAGE),
    ):
        assert not any(name.startswith("access-control") for name in response.headers)


@pytest.mark.parametrize(
    "origins", ["https://a.example", "https://a.example,http://[::1]:8080 , http://b:81", "*", "moz-extension://0-1"]
)
def test_origins(origins: str) -> None:
    assert len(Settings(cors_origins=origins).cors_origin_list) == origins.count(",") + 1


@pytest.mark.parametrize(
    "origins",
    [
        *(
            "example.org",
            "https://example.org/",
            "https://example.org/app",
            "https://",
            "https://*.example.org",
            "null",
        ),
        *(
            "https://a.example,",
            "https://a.example https://b.example",
            "https://user@a.example",
            "https://a.example:443",
        ),
        *("http://a.example:80", "https://a.example?b", '["https://a.example"]', "localhost:3000"),
    ],
)
def test_what_no_browser_sends_as_an_origin_is_an_error(origins: str) -> None:
    with pytest.raises(ValidationError, match="an origin is a scheme, a host"):
        Settings(cors_origins=origins)


def test_the_environment_has_them_separated_by_commas(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVPOOL_CORS_ORIGINS", f"{PAGE},{OTHER_PAGE}")
    assert Settings().cors_origin_list == [PAGE, OTHER_PAGE]
