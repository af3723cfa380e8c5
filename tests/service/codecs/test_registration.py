"""A format is one class and one registration: requests, responses, documentation and examples derive from it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import httpx
import numpy as np
import numpy.typing as npt
import pytest

import service
from service.app import create_app
from service.codecs import CODECS, Codec, Decoded, Encoded, Limits, RequestContext, ResponseContext
from service.settings import Settings
from tests.clients import ApplicationClient, application_client

Arrays = Mapping[str, npt.NDArray[Any]]
HEADER_LENGTH = "Toy-Header-Length"


class ToyCodec(Codec):
    """A header in JSON with shapes, parameters and an id that comes back, and float64 bytes after it."""

    media_type: ClassVar[str] = "application/x-toy"
    aliases: ClassVar[tuple[str, ...]] = ("application/vnd.toy",)
    title: ClassVar[str] = "toy"
    parameters_in: ClassVar[str] = "in the header of a toy body"
    extension: ClassVar[str] = "toy"

    def decode(self, body: bytearray, request: RequestContext, limits: Limits) -> Decoded:  # noqa: ARG002
        length = int(request.headers[HEADER_LENGTH])
        header, file = json.loads(body[:length]), io.BytesIO(body[length:])
        shapes = {name: header["shapes"][name] for name in request.operands if name in header["shapes"]}
        tensors = {
            name: np.frombuffer(file.read(8 * int(np.prod(shape)))).reshape(shape) for name, shape in shapes.items()
        }
        return Decoded(tensors, header.get("parameters", {}), {"id": header.get("id")})

    def encode(self, results: Arrays, response: ResponseContext) -> Encoded:
        shapes = {name: result.shape for name, result in results.items()}
        header = json.dumps({"shapes": shapes, "parameters": dict(response.parameters), **response.options}).encode()
        return Encoded([header, *(result.tobytes() for result in results.values())], {HEADER_LENGTH: str(len(header))})


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApplicationClient]:
    monkeypatch.setitem(CODECS, ToyCodec.media_type, ToyCodec())  # the registration
    with application_client(create_app(Settings())) as client:
        yield client


OPERANDS = {"input": np.arange(12.0).reshape(1, 6, 2), "weight": np.arange(4.0).reshape(1, 2, 2)}
PARAMETERS = {"stride": 2}
AS_JSON = {name: operand.tolist() for name, operand in OPERANDS.items()}
OUTPUT = OPERANDS["input"][:, ::2] @ OPERANDS["weight"][0]


def toy_request(operands: Arrays, parameters: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """Options of a request in the toy format."""
    encoded = ToyCodec().encode(operands, ResponseContext(options, parameters=parameters))
    headers = {"Content-Type": ToyCodec.media_type, **encoded.headers}
    return {"content": b"".join(encoded.buffers), "headers": headers}


def toy_results(response: httpx.Response) -> Decoded:
    """The results in a response in the toy format, as if they were operands."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == ToyCodec.media_type
    names = ["output", "grad_input", "grad_weight", "grad_bias"]
    context = RequestContext(names, headers=response.headers)
    return ToyCodec().decode(bytearray(response.content), context, Limits(0, lambda _: None))


def test_a_request_is_decoded_with_its_headers_and_the_parameters_in_its_body(client: ApplicationClient) -> None:
    request = toy_request(OPERANDS, PARAMETERS)
    request["headers"]["Accept"] = "application/json"
    response = client.post("/conv/forward", **request)
    assert response.json() == {"output": OUTPUT.tolist()}
    request["headers"]["Content-Type"] = ToyCodec.aliases[0]
    assert client.post("/conv/forward", **request).json() == response.json()


def test_a_parameter_in_the_body_is_checked_as_everywhere(client: ApplicationClient) -> None:
    response = client.post("/conv/forward", **toy_request(OPERANDS, {"stride": 0}))
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/stride"


def test_a_response_has_the_format_of_the_request_and_its_own_headers(client: ApplicationClient) -> None:
    decoded = toy_results(client.post("/conv/forward", **toy_request(OPERANDS, PARAMETERS, id="seven")))
    np.testing.assert_array_equal(decoded.tensors["output"], OUTPUT)
    assert decoded.response_options == {"id": "seven"}
    assert decoded.parameters["stride"] == [2]  # as it was resolved


def test_accept_asks_for_a_response_in_the_format(client: ApplicationClient) -> None:
    headers = {"Accept": ToyCodec.media_type}
    response = client.post("/conv/forward", json={**AS_JSON, **PARAMETERS}, headers=headers)
    np.testing.assert_array_equal(toy_results(response).tensors["output"], OUTPUT)


def test_what_is_not_acceptable_or_readable_is_told_of_the_format(client: ApplicationClient) -> None:
    for status, headers in ((415, {"Content-Type": "text/plain"}), (406, {"Accept": "text/plain"})):
        response = client.post("/conv/forward", content=b"{}", headers={"Content-Type": ToyCodec.media_type, **headers})
        assert response.status_code == status
        assert ToyCodec.media_type in response.json()["detail"]


def test_the_other_formats_are_what_they_were(client: ApplicationClient) -> None:
    response = client.post("/conv/forward", json={**AS_JSON, **PARAMETERS})
    assert response.headers["content-type"] == "application/json"
    response = client.post("/conv/forward", json={**AS_JSON, **PARAMETERS}, headers={"Accept": "application/*;q=0.5"})
    assert response.headers["content-type"] == "application/json"


def test_the_documentation_has_the_format(client: ApplicationClient) -> None:
    document = client.get("/openapi.json").json()
    assert re.search(r"JSON, npy, npz, [^.]*\btoy\b", document["info"]["description"])
    assert "in the header of a toy body" in document["info"]["description"]
    binary = {"schema": {"type": "string", "format": "binary"}}
    for listed in client.get("/ops").json()["operations"]:
        assert ToyCodec.media_type in listed["content_types"]
        documented = document["paths"][listed["path"]]["post"]
        assert documented["requestBody"]["content"][ToyCodec.media_type] == binary
        assert documented["responses"]["200"]["content"][ToyCodec.media_type] == binary
        assert f"**{ToyCodec.media_type}**: [request.toy]" in documented["description"]
    files = document["paths"]["/examples/{operation}/{file}"]["get"]
    assert ToyCodec.media_type in files["responses"]["200"]["content"]


@pytest.mark.parametrize("path", ["/conv/forward", "/conv/backward", "/pool/forward", "/unfold/forward"])
def test_the_example_is_a_file_and_a_command_that_sends_it(client: ApplicationClient, path: str) -> None:
    described = client.get("/openapi.json").json()["paths"][path]["post"]["description"]
    (printed,) = [
        each for each in re.findall(r"```bash\n(.*?)```", described, re.DOTALL) if ToyCodec.media_type in each
    ]
    fetched, sent = re.findall(r"curl -s (\S+)", printed)
    file = client.get(fetched.removeprefix("http://127.0.0.1:8000"))
    assert file.headers["content-type"] == ToyCodec.media_type
    headers = dict(re.findall(r"-H '(.*?): (.*?)'", printed))
    assert headers[HEADER_LENGTH]
    response = client.post(sent.removeprefix("http://127.0.0.1:8000"), content=file.content, headers=headers)
    command_in_json = next(each for each in re.findall(r"-d '(.*?)'", described, re.DOTALL))
    assert response.json() == client.post(path, json=json.loads(command_in_json)).json()


def test_no_media_type_is_named_outside_the_codecs() -> None:
    """A branch on a name, such as ``if media_type == "application/json"``, would have to be added for each format."""
    media_type = re.compile(r"(?:application|multipart)/(?!problem\+json)[a-z]")
    root = Path(service.__file__).parent
    naming = [path.relative_to(root).as_posix() for path in root.rglob("*.py") if media_type.search(path.read_text())]
    assert naming
    assert all(path.startswith("codecs/") for path in naming), naming
