"""The published descriptions, /openapi.json, /docs and /ops, agree with each other and with what the service does."""

from __future__ import annotations

import html.parser
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from openapi_spec_validator import validate

from service.codecs import CODECS
from service.documentation.described import described_operation
from service.operations.catalogue import CATALOGUE, OPERATIONS
from service.operations.operation import Operation
from tests.clients import ApplicationClient
from tests.service import payloads
from tests.service.document import (
    CALLS,
    DOCUMENT,
    DOCUMENTED,
    Documented,
    Object,
    answer,
    checked_by,
    each_call,
    each_documented,
    each_operation,
    example_parameters,
    json_examples,
    json_request,
    listed_operations,
    query_example,
    resolved,
    whole_example,
)

SERVER_IN_COMMANDS = "http://127.0.0.1:8000"
COMMANDS = [
    pytest.param(operation, command, id=f"{operation.name}-{number}")
    for operation in OPERATIONS
    for number, command in enumerate(
        re.findall(r"```bash\n(.*?)```", DOCUMENT["paths"][operation.path]["post"]["description"], re.DOTALL)
    )
]
LINKS = {
    operation.name: re.findall(
        r"^\*\*(\S+)\*\*: (.*)$", DOCUMENT["paths"][operation.path]["post"]["description"], re.MULTILINE
    )
    for operation in OPERATIONS
}
"""For each operation the formats, and the files that the text links to beside each."""
FILES = [
    pytest.param(operation, media_type, address, id=f"{operation.name}-{media_type}-{address.rpartition('/')[2]}")
    for operation in OPERATIONS
    for media_type, links in LINKS[operation.name]
    for address in re.findall(r"\]\((.*?)\)", links)
]


# ------------------------------------------------------------------------------------------------------- /openapi.json


def test_the_document_is_valid_and_served(client: ApplicationClient) -> None:
    response = client.get("/openapi.json")
    assert response.status_code == 200
    assert response.json() == DOCUMENT
    validate(DOCUMENT)


@each_documented
def test_everything_says_what_it_is_for(documented: Documented) -> None:
    described = documented.described
    assert described["summary"].strip()
    assert described.get("description", "").strip()
    assert described["tags"]
    assert "200" in described["responses"]
    for status, response in described["responses"].items():
        assert resolved(response)["description"].strip(), status
    for parameter in described.get("parameters", []):
        assert parameter.get("description", "").strip(), parameter["name"]


@each_documented
def test_documented_errors_are_problems(documented: Documented) -> None:
    responses = documented.described["responses"]
    if not documented.path.startswith("/v2"):
        for status, response in responses.items():
            assert status == "200" or list(resolved(response)["content"]) == ["application/problem+json"], status
    if "{" in documented.path:
        assert "404" in responses


def test_operation_ids_are_unique() -> None:
    identifiers = [documented.described["operationId"] for documented in DOCUMENTED]
    assert len(set(identifiers)) == len(identifiers)


@each_call
def test_a_call_documents_its_body_and_its_errors(call: Documented) -> None:
    assert call.described["requestBody"]["required"]
    assert "application/json" in call.described["requestBody"]["content"]
    assert {"400", "413", "415", "422", "503"} <= set(call.described["responses"])


@each_call
def test_examples_are_answered(client: ApplicationClient, call: Documented) -> None:
    content = call.described["requestBody"]["content"]
    examples = json_examples(content)
    assert examples
    for example in examples:
        checked_by(content["application/json"]["schema"]).validate(example)
        in_json = {"Accept": "application/json"}
        response = client.post(call.path, params=query_example(call.described), json=example, headers=in_json)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/json"
        schema = call.described["responses"]["200"]["content"]["application/json"]["schema"]
        checked_by(schema).validate(response.json())


@each_documented
def test_examples_of_answers_are_what_is_answered(client: ApplicationClient, documented: Documented) -> None:
    for example in json_examples(documented.described["responses"]["200"]["content"]):
        options: Object = {}
        if documented.method == "post":
            options = {"params": query_example(documented.described), "json": json_request(documented.described)}
        assert client.request(documented.method.upper(), documented.path, **options).json() == example


@each_call
def test_problems_are_as_documented(client: ApplicationClient, call: Documented) -> None:
    response = client.post(call.path, json={"strides": 2})
    assert response.status_code == 422
    schema = resolved(call.described["responses"]["422"])["content"][response.headers["content-type"]]["schema"]
    checked_by(schema).validate(response.json())


@each_call
def test_the_schema_of_a_body_refuses_unknown_and_missing_names(call: Documented) -> None:
    schema = resolved(call.described["requestBody"]["content"]["application/json"]["schema"])
    example = json_request(call.described)
    assert checked_by(schema).is_valid(example)
    assert not checked_by(schema).is_valid({**example, "strides": 2})
    for required in schema.get("required", []):
        assert not checked_by(schema).is_valid({name: value for name, value in example.items() if name != required})


# ------------------------------------------------------------------------------------------------ files and commands


@pytest.mark.parametrize(("operation", "media_type", "address"), FILES)
def test_a_file_of_an_example_gives_the_numbers_of_json(
    client: ApplicationClient, operation: Operation, media_type: str, address: str
) -> None:
    assert address.startswith(f"examples/{operation.name}/")  # relative: the same behind a path prefix
    file = client.get(f"/{address}")
    assert file.status_code == 200
    if media_type == "multipart/form-data":
        assert file.headers["content-type"] == "application/x-npy"
        return  # several of them make a body, as the command shows that is run below
    assert file.headers["content-type"] == media_type
    query = query_example(DOCUMENT["paths"][operation.path]["post"])
    response = client.post(
        operation.path,
        params={} if CODECS[media_type].parameters_in else query,
        content=file.content,
        headers={
            **CODECS[media_type].encode_example(described_operation(operation)).headers,
            "Content-Type": media_type,
            "Accept": "application/json",
        },
    )
    assert response.status_code == 200, response.text
    assert numbers(response.json()) == numbers(answer(client, operation))


@each_operation
def test_every_format_has_a_command_and_the_binary_ones_a_file(operation: Operation) -> None:
    content = DOCUMENT["paths"][operation.path]["post"]["requestBody"]["content"]
    commands = [str(command.values[1]) for command in COMMANDS if command.values[0] is operation]
    for media_type in content:
        sent = " -F " if media_type == "multipart/form-data" else f"Content-Type: {media_type}"
        assert sum(sent in command for command in commands) == 1, media_type
    assert [media_type for media_type, _ in LINKS[operation.name]] == list(content)
    assert all("](" in links for _, links in LINKS[operation.name])


def test_no_example_is_a_reference_to_a_file() -> None:
    """Generators of clients take a relative externalValue for a file of theirs, and end."""
    assert "externalValue" not in str(DOCUMENT)


def numbers(answered: dict[str, Any]) -> dict[str, Any]:
    """The results as nested lists: an answer to JSON has its operands' form, one to a file is nested."""
    return {name: payloads.json_array(tensor).tolist() for name, tensor in answered.items()}


@pytest.mark.parametrize(("operation", "command"), COMMANDS)
def test_a_command_of_the_documentation_runs_as_printed(
    client: ApplicationClient, server_url: str, operation: Operation, command: str
) -> None:
    bash = shutil.which("bash")
    if bash is None or shutil.which("curl") is None:
        pytest.skip("bash and curl are not installed")
    assert SERVER_IN_COMMANDS in command
    # any status but 2xx makes curl, and with it the command, fail
    prologue = 'set -euo pipefail; curl() { command curl --fail-with-body --max-time 20 "$@"; }\n'
    ran = subprocess.run(
        [bash, "-c", prologue + command.replace(SERVER_IN_COMMANDS, server_url)],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stdout
    assert ran.stderr == b""
    assert numbers(orjson.loads(ran.stdout)) == numbers(answer(client, operation))


# ---------------------------------------------------------------------------------------------------------------- /docs


class Addresses(html.parser.HTMLParser):
    """Collects what a page makes a browser fetch or lets a user go to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self.found += [value for name, value in attrs if name in ("href", "src", "action") and value]


def test_the_page_needs_no_other_host(client: ApplicationClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert set(re.findall(r"\w+://[^/\s'\"]+", page.text)) == {SERVER_IN_COMMANDS}  # what it puts its own address for
    addresses = Addresses()
    addresses.feed(page.text)
    assert any(address.endswith(".js") for address in addresses.found)
    assert any(address.endswith(".css") for address in addresses.found)
    for address in addresses.found:
        assert re.match(r"[\w.-]+/[\w.-]+", address)
        asset = client.get(f"/{address}")
        assert asset.status_code == 200
        assert asset.content
        if address.endswith(".css"):
            assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//", asset.text)


def test_the_document_names_no_other_host() -> None:
    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from texts(child)

    addresses = [address for text in texts(DOCUMENT) for address in re.findall(r"\w+://[^/\s'\"]+", text)]
    assert addresses
    assert set(addresses) == {SERVER_IN_COMMANDS}


# ----------------------------------------------------------------------------------------------------------------- /ops


@each_operation
def test_ops_lists_the_operation(client: ApplicationClient, operation: Operation) -> None:
    listed = listed_operations(client)[operation.name]
    assert listed["path"] == operation.path
    assert [operand["name"] for operand in listed["operands"]] == list(operation.operand_names)
    required = [operand["name"] for operand in listed["operands"] if operand["required"]]
    assert required == list(operation.required_operands)
    assert all(operand["description"].strip() for operand in listed["operands"])
    assert set(answer(client, operation)) <= set(listed["results"])
    documented = DOCUMENT["paths"][operation.path]["post"]
    assert listed["content_types"] == list(documented["requestBody"]["content"])


@each_operation
def test_ops_has_the_parameters_as_a_schema(client: ApplicationClient, operation: Operation) -> None:
    schema = listed_operations(client)[operation.name]["parameters"]
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    example = example_parameters(operation, whole_example(client, operation))
    validator.validate(example)
    assert not validator.is_valid({**example, "strides": 2})
    for required in schema["required"]:
        assert not validator.is_valid({name: value for name, value in example.items() if name != required})
    assert all(described["description"].strip() for described in schema["properties"].values())


@each_operation
def test_every_place_knows_the_same_parameters(client: ApplicationClient, operation: Operation) -> None:
    listed = listed_operations(client)[operation.name]
    parameters = set(listed["parameters"]["properties"])
    documented = DOCUMENT["paths"][operation.path]["post"]
    assert {parameter["name"] for parameter in documented["parameters"] if parameter["in"] == "query"} == parameters
    content = documented["requestBody"]["content"]
    operands = {operand["name"] for operand in listed["operands"]}
    in_json = resolved(content["application/json"]["schema"])["properties"]
    assert set(in_json) == {*operands, *parameters, "dtype"}
    for name, described in listed["parameters"]["properties"].items():
        assert in_json[name]["description"].startswith(described["description"])
        # what a generated client sends of itself would count as given
        assert "default" not in in_json[name]
    # a parameter that a form documents too would stand on the page twice
    assert set(content["multipart/form-data"]["schema"]["properties"]) == operands


def test_operations_are_where_the_document_is() -> None:
    assert [server["url"] for server in DOCUMENT["servers"]] == ["."]


@each_operation
def test_defaults_are_what_is_computed_with(client: ApplicationClient, operation: Operation) -> None:
    schema = listed_operations(client)[operation.name]["parameters"]
    example = whole_example(client, operation)
    modes = schema["properties"].get("mode", {"enum": [None]})["enum"]
    requests = [example if mode is None else {**example, "mode": mode} for mode in modes]
    without = [client.post(operation.path, json=request) for request in requests]
    assert {response.status_code for response in without} == {200}
    for name, described in schema["properties"].items():
        if "default" not in described or name in example:
            continue
        given = [client.post(operation.path, json={**request, name: described["default"]}) for request in requests]
        # a parameter of one mode is refused by the others
        known = [pair for pair in zip(given, without, strict=True) if "only with" not in pair[0].text]
        assert known, name
        assert all(response.json() == expected.json() for response, expected in known), name


def test_catalogue_routes_ops_and_document_agree(client: ApplicationClient) -> None:
    paths = {operation.path for operation in OPERATIONS}
    others = {f"/{layer.name}/{call}" for layer in CATALOGUE for call in ("shape", "check", "cases")}
    assert {call.path for call in CALLS} == paths | others
    assert {listed["path"] for listed in listed_operations(client).values()} == paths
    for path in paths | others:
        assert client.post(path).status_code == 415  # neither 404 nor 405
    for layer in CATALOGUE:
        differentiable = any(op.differentiable for op in layer.ops.values())
        assert f"/{layer.name}/forward" in paths
        assert (f"/{layer.name}/backward" in paths) == differentiable
