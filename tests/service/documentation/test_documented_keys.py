"""What /openapi.json says of API keys, where they are required and where not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from service.app import create_app
from service.settings import Settings
from tests.clients import ApplicationClient, application_client
from tests.service.document import DOCUMENT

KEY = "a-key-of-the-tests-0123456789"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApplicationClient]:
    path: Path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(KEY)
    with application_client(create_app(Settings(api_keys_file=str(path)))) as client:
        yield client


@pytest.fixture(scope="module")
def document(guarded: ApplicationClient) -> Any:
    return guarded.get("/openapi.json").json()


def test_where_none_are_required_nothing_is_said_of_them() -> None:
    assert "security" not in DOCUMENT
    assert "securitySchemes" not in DOCUMENT["components"]
    assert all("401" not in call["responses"] for calls in DOCUMENT["paths"].values() for call in calls.values())


def test_the_document_is_valid_and_has_all_that_it_has_otherwise(document: Any) -> None:
    validate(document)
    (scheme,) = document["components"]["securitySchemes"]
    assert document["security"] == [{scheme: []}]
    assert "Authorization: Bearer" in document["info"]["description"]
    assert document["components"]["schemas"] == DOCUMENT["components"]["schemas"]
    assert document["paths"].keys() == DOCUMENT["paths"].keys()


def test_what_it_says_of_each_call_is_what_happens(guarded: ApplicationClient, document: Any) -> None:
    needing = 0
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            response = guarded.request(method.upper(), path)
            needs_one = call.get("security") != []
            needing += needs_one
            assert (response.status_code == 401) == needs_one, path
            assert ("401" in call["responses"]) == needs_one, path
            if needs_one:
                documented = document["components"]["responses"][call["responses"]["401"]["$ref"].rpartition("/")[2]]
                assert list(documented["content"]) == [response.headers["content-type"]]
                assert all(name.lower() in response.headers for name in documented["headers"])
    assert needing > 25
