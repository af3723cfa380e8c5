"""From the schemas of /openapi.json a generator of clients makes one type of each thing, which holds all its values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from service.documentation.components import with_components
from service.operations.catalogue import CATALOGUE, OPERATIONS
from service.operations.operation import Operation
from tests.clients import ApplicationClient
from tests.service.document import DOCUMENT, DOCUMENTED, Documented, Object, each_documented, each_operation

SCHEMAS: Object = DOCUMENT["components"]["schemas"]
REFERENCE = "#/components/schemas/"


def parts(schema: Object) -> Iterator[Object]:
    """A schema and all those in it; references are not followed."""
    yield schema
    inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", []), *schema.get("allOf", [])]
    inner += [schema[name] for name in ("items", "additionalProperties") if isinstance(schema.get(name), dict)]
    for each in inner:
        yield from parts(each)


def used(value: Any) -> Iterator[Object]:
    """The schemas of operations: of parameters, bodies and headers."""
    if isinstance(value, dict):
        if isinstance(value.get("schema"), dict):
            yield value["schema"]
        for name, child in value.items():
            if name not in ("schema", "example", "examples"):
                yield from used(child)
    elif isinstance(value, list):
        for child in value:
            yield from used(child)


IN_OPERATIONS = list(used(DOCUMENT["paths"])) + list(used(DOCUMENT["components"]["responses"]))
EVERYWHERE = [part for schema in [*IN_OPERATIONS, *SCHEMAS.values()] for part in parts(schema)]


def test_operations_refer_to_their_types_by_name() -> None:
    forms = [
        documented.described["requestBody"]["content"].get("multipart/form-data", {}).get("schema")
        for documented in DOCUMENTED
        if "requestBody" in documented.described
    ]
    for schema in IN_OPERATIONS:
        if schema in forms:  # openapi-generator cannot do with a name there
            assert all(each["type"] == "string" for each in schema["properties"].values())
        else:
            assert schema.keys() <= {"$ref"} or schema["type"] in ("string", "integer", "number", "boolean"), schema
            assert "enum" not in schema


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_type_refers_to_the_types_in_it(name: str) -> None:
    for inner in list(parts(SCHEMAS[name]))[1:]:
        assert "properties" not in inner
        assert "enum" not in inner
        assert "anyOf" not in inner
        assert inner.get("type") != "object"


def test_every_reference_resolves_and_every_component_is_referred_to() -> None:
    references = {part["$ref"].removeprefix(REFERENCE) for part in EVERYWHERE if "$ref" in part}
    assert references == set(SCHEMAS)
    text = str(DOCUMENT["paths"])
    assert all(f"'#/components/responses/{name}'" in text for name in DOCUMENT["components"]["responses"])


def test_schemas_are_openapi_3_0() -> None:
    for part in EVERYWHERE:
        if "$ref" in part:
            assert list(part) == ["$ref"]  # what stands beside it is ignored
        assert not part.keys() & {"oneOf", "prefixItems", "const", "$defs", "examples", "title", "nullable"}
        assert part.get("type") in (None, "string", "integer", "number", "boolean", "array", "object")
        assert None not in part.get("enum", [])


def test_every_number_has_a_format() -> None:
    formats = {"integer": ("int32", "int64"), "number": ("double",)}
    for part in EVERYWHERE:
        if part.get("type") in formats:
            assert part.get("format") in formats[part["type"]], part
            assert part["format"] != "int32" or part.get("maximum", 600) < 2**31


def test_an_enumeration_has_no_two_words_that_differ_in_case_only() -> None:
    """Constants are in upper case in many languages."""
    for part in EVERYWHERE:
        words = [word.upper() for word in part.get("enum", [])]
        assert len(set(words)) == len(words)


@each_operation
def test_an_operation_has_types_of_its_own(operation: Operation) -> None:
    name = operation.name.replace("_", " ").title().replace(" ", "")
    described = DOCUMENT["paths"][operation.path]["post"]
    assert described["requestBody"]["content"]["application/json"]["schema"] == {"$ref": f"{REFERENCE}{name}Request"}
    result = described["responses"]["200"]["content"]["application/json"]["schema"]
    assert result == {"$ref": f"{REFERENCE}{name}Result"}
    assert list(SCHEMAS[f"{name}Result"]["properties"]) == list(operation.results)
    for each in operation.operand_names:
        assert SCHEMAS[f"{name}Request"]["properties"][each]["allOf"] == [{"$ref": f"{REFERENCE}Tensor"}]
    for media_type, content in described["requestBody"]["content"].items():
        if media_type not in ("application/json", "multipart/form-data"):
            assert content["schema"] == {"type": "string", "format": "binary"}, media_type


@pytest.mark.parametrize("layer", CATALOGUE, ids=lambda layer: layer.name)
def test_a_shape_call_has_types_of_its_own(layer: Any) -> None:
    name = layer.name.replace("_", " ").title().replace(" ", "")
    described = DOCUMENT["paths"][f"/{layer.name}/shape"]["post"]
    request = described["requestBody"]["content"]["application/json"]["schema"]
    response = described["responses"]["200"]["content"]["application/json"]["schema"]
    assert (request, response) == ({"$ref": f"{REFERENCE}{name}ShapeRequest"}, {"$ref": f"{REFERENCE}ShapeResponse"})
    assert SCHEMAS[f"{name}ShapeRequest"]["properties"]["shapes"] == {"$ref": f"{REFERENCE}{name}Shapes"}


@each_documented
def test_errors_are_shared_problems(documented: Documented) -> None:
    if documented.method == "post" and not documented.path.startswith("/v2"):
        for status, response in documented.described["responses"].items():
            assert status == "200" or list(response) == ["$ref"], status


NAMES_BY_HAND = {
    "health_live": "/health/live",
    "health_ready": "/health/ready",
    "list_operations": "/ops",
    "example_file": "/examples/{operation}/{file}",
    **{
        f"{layer}_{call}": f"/{layer}/{call}"
        for layer in ("conv", "conv_transpose", "pool", "unpool", "unfold", "fold")
        for call in ("forward", "backward", "shape")
    },
    **{
        f"{layer}_{call}": f"/{layer}/{call}"
        for layer in ("conv_integer", "qlinear_conv")
        for call in ("forward", "shape")
    },
}


def test_operation_ids_are_what_they_were() -> None:
    """They are the names of methods in clients that people have generated."""
    found = {documented.described["operationId"]: documented.path for documented in DOCUMENTED}
    assert NAMES_BY_HAND.items() <= found.items()


TYPES_BY_HAND = {
    "Tensor",
    "FlatTensor",
    "Base64Tensor",
    "NestedTensor",
    "Dtype",
    "OperandDtype",
    "Stride",
    "KernelSize",
    "Dilation",
    "Padding",
    "PaddingWord",
    "OutputPadding",
    "OutputSize",
    "DataFormat",
    "Framework",
    "Algorithm",
    "PaddingMode",
    "IndexScheme",
    "StorageOrder",
    "Ties",
    "Mode",
    "Wrt",
    "ConvForwardRequest",
    "ConvForwardResult",
    "PoolBackwardRequest",
    "PoolBackwardResult",
    "ConvShapeRequest",
    "ConvShapes",
    "ShapeResponse",
    "ResolvedParameters",
    "Problem",
    "Finding",
    "OperationList",
    "Operation",
    "Operand",
    "Health",
}


def test_names_of_types_are_what_they_were() -> None:
    assert set(SCHEMAS) >= TYPES_BY_HAND


@pytest.mark.parametrize(
    ("name", "spelling", "path"),
    [
        *(("data_format", word, "/conv/forward") for word in ("channels_last", "channels_first", "NHWC", "NCHW")),
        *(("framework", word, "/conv/forward") for word in ("torch", "pytorch", "tensorflow", "tf", "keras", "jax")),
        ("padding", "same_upper", "/conv/forward"),
        ("output_padding", "to_stride", "/conv_transpose/forward"),
    ],
)
def test_a_spelling_that_is_accepted_is_documented(
    client: ApplicationClient, name: str, spelling: str, path: str
) -> None:
    ones = [[[[1.0]]]]
    response = client.post(path, json={"input": ones, "weight": ones, name: spelling})
    assert response.status_code == 200, response.text
    (query,) = (each for each in DOCUMENT["paths"][path]["post"]["parameters"] if each["name"] == name)
    title = "".join(word.capitalize() for word in name.split("_"))
    assert spelling in SCHEMAS[title].get("enum", SCHEMAS.get(f"{title}Word", {}).get("enum"))
    assert "enum" not in query["schema"]


def test_gradients_are_promised_for_what_has_them() -> None:
    for operation in OPERATIONS:
        described = DOCUMENT["paths"][operation.path]["post"]["description"]
        if operation.direction == "backward":
            (promised,) = (line for line in described.splitlines() if "gradients of `sum(" in line)
            for operand in operation.entry.operands:
                assert (f"`{operand.name}`" in promised) == (f"grad_{operand.name}" in operation.results)


# --------------------------------------------------------------------------------------------------- how they are made


def of(schema: Object) -> Object:
    return {"paths": {"/": schema}, "components": {}}


def test_what_has_a_title_is_described_once() -> None:
    item = {"title": "Item", "type": "object", "properties": {"title": {"type": "string"}}}
    document = with_components(of({"schema": {"anyOf": [item, {"type": "array", "items": item}]}}))
    reference = {"$ref": "#/components/schemas/Item"}
    assert document["paths"] == {"/": {"schema": {"anyOf": [reference, {"type": "array", "items": reference}]}}}
    without_title = {name: value for name, value in item.items() if name != "title"}
    assert document["components"]["schemas"] == {"Item": without_title}


def test_a_title_in_an_example_is_only_a_title() -> None:
    described = {"schema": {"type": "object"}, "example": {"title": "Busy", "status": 503}}
    assert with_components(of(described))["paths"] == {"/": described}


def test_two_schemas_cannot_have_one_title() -> None:
    schemas = {"one": {"title": "Item", "type": "string"}, "other": {"title": "Item", "type": "integer"}}
    with pytest.raises(ValueError, match="Item"):
        with_components(of(schemas))


@pytest.mark.parametrize("path", ["/openapi.json", "/ops"])
def test_a_document_that_is_known_is_not_sent_again(client: ApplicationClient, path: str) -> None:
    first = client.get(path)
    assert first.headers["content-type"] == "application/json"
    tag = first.headers["etag"]
    for known in (tag, f'"other", {tag}', tag.removeprefix("W/")):
        again = client.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    other = client.get(path, headers={"If-None-Match": '"other"'})
    assert (other.status_code, other.content) == (200, first.content)
