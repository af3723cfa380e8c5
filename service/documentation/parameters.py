"""What is said of an operation's parameters: their schemas, defaults in words, and how a query string has them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, get_args

from cnn_core.parameters import Framework

from ..codecs.described import as_text, with_description
from ..operations.catalogue import OPERATIONS
from ..operations.operation import Operation
from .examples import example
from .schemas import model_schema

__all__ = [
    "framework_defaults",
    "parameter_properties",
    "query_parameters",
    "request_properties",
    "required_parameters",
    "titled",
    "type_name",
    "without_null",
]


ONLY_WITH = "x-only-with"
"""Keyword of the schema of a parameter that not every op of its layer has: the values of the selector that have it."""


@functools.cache
def parameter_properties(operation: Operation) -> dict[str, Any]:
    """Return the JSON schema of every parameter that an op of the layer has."""
    selector, ops = operation.entry.selector, operation.entry.ops
    merged: dict[str, Any] = {}
    if selector:
        merged[selector] = {"type": "string", "enum": list(ops), "description": "Selects the op."}
    schemas = {value: model_schema(operation.models[op])["properties"] for value, op in ops.items()}
    for properties in schemas.values():
        for name, schema in properties.items():
            having = [value for value, others in schemas.items() if name in others]
            text, only = schema.get("description", ""), {}
            if len(having) < len(ops):
                text, only = f"{text} Only with {selector}={' or '.join(having)}.", {ONLY_WITH: {selector: having}}
            merged.setdefault(name, {**schema, "description": text, **only})
    return merged


@functools.cache
def required_parameters(operation: Operation) -> list[str]:
    """Return the parameters without which no request can be computed."""
    return [
        name
        for name in parameter_properties(operation)
        if all(name in model.model_json_schema().get("required", []) for model in operation.models.values())
    ]


@functools.cache
def framework_defaults(operation: Operation) -> dict[str, dict[str, Any]]:
    """Return each framework's defaults where they are not convpool's."""
    ops = operation.entry.ops.values()
    return {
        framework: {name: value for op in ops for name, value in op.defaults_of(framework).items()}
        for framework in get_args(Framework)
    }


@functools.cache
def request_properties(operation: Operation) -> dict[str, Any]:
    """Return the JSON schema of every parameter, its default said in words.

    As the schema's own, clients that are generated from it send a default along: in a query although the body has the
    parameter too, and as given, so that no framework's default and no other mode applies.
    """
    properties = {}
    for name, schema in parameter_properties(operation).items():
        text = schema["description"]
        if "default" in schema:
            others = {
                framework: defaults[name]
                for framework, defaults in framework_defaults(operation).items()
                if defaults.get(name, schema["default"]) != schema["default"]
            }
            text = f"{text} Default: {_default_text(schema['default'], others)}."
        elif name in required_parameters(operation):
            text = f"{text} Required, in the query string or in the body."
        properties[name] = with_description(titled(_values(schema), _titles()[operation, name]), text)
    return properties


def _values(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter's values, without what only one operation says of it."""
    return without_null(
        {key: value for key, value in schema.items() if key not in ("default", "description", ONLY_WITH)}
    )


@functools.cache
def _titles() -> Mapping[tuple[Operation, str], str]:
    """Return the title of each parameter's schema: its own name, with its layer's where earlier ones have other values.

    So a layer that is added to the catalogue changes no title of those before it.
    """
    titles, known = {}, dict[str, Any]()
    for operation in OPERATIONS:
        for name, schema in parameter_properties(operation).items():
            values = _values(schema)
            candidates = (type_name(name), type_name(f"{operation.entry.name}_{name}"))
            titles[operation, name] = next(title for title in candidates if known.setdefault(title, values) == values)
    return titles


def type_name(name: str) -> str:
    """Write a name as that of a type: ``ConvForward`` for ``conv_forward``."""
    return "".join(word.capitalize() for word in name.split("_"))


def titled(schema: Mapping[str, Any], title: str) -> dict[str, Any]:
    """Return a schema with titles for itself and the words in it, where clients need a type for them."""
    if "enum" in schema:
        return {"title": title, **schema}
    if "enum" in schema.get("items", {}):
        return {**schema, "items": {"title": title, **schema["items"]}}
    if "anyOf" in schema:
        return {"title": title, **schema, "anyOf": [titled(each, f"{title}Word") for each in schema["anyOf"]]}
    return dict(schema)


def _default_text(default: Any, others: Mapping[str, Any]) -> str:
    """Say a default, and which frameworks have another."""
    by_value: dict[str, list[str]] = {}
    for framework, value in others.items():
        by_value.setdefault(as_text(value), []).append(framework)
    words = [f"{value} with framework={_alternatives(frameworks)}" for value, frameworks in by_value.items()]
    own = "not given" if default is None else as_text(default)
    return f"{own} ({'; '.join(words)})" if words else own


def _alternatives(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)


def without_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema without the null that means "not given": a request simply leaves the parameter out."""
    alternatives = [alternative for alternative in schema.get("anyOf", []) if alternative != {"type": "null"}]
    return dict(alternatives[0]) if len(alternatives) == 1 else dict(schema)


def query_parameters(operation: Operation) -> list[dict[str, Any]]:
    """Return the parameters as Swagger UI asks for them; those of the example are filled in.

    The example's bodies hold the operands only, so that what is chosen here is not also said in the body.
    """
    filled_in, _ = example(operation)
    parameters = []
    for name, described in request_properties(operation).items():
        values = _values(parameter_properties(operation)[name])
        # what may be a list is text, and not alternatives: those would be a type of their own in a generated client
        is_text = "anyOf" in values or values["type"] == "array"
        parameter = {
            "name": name,
            "in": "query",
            "required": False,
            "description": described["description"],
            "schema": _text_schema(values) if is_text else titled(values, _titles()[operation, name]),
        }
        if name in filled_in:
            parameter["example"] = as_text(filled_in[name]) if is_text else filled_in[name]
        parameters.append(parameter)
    return parameters


def _text_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a value as the text that a query string has: a list is ``[2,1]`` or ``2,1``."""
    return {"type": "string", "pattern": f"^({_text_pattern(schema)})$"}


def _text_pattern(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return "|".join(dict.fromkeys(_text_pattern(alternative) for alternative in schema["anyOf"]))
    if "enum" in schema:
        return "|".join(schema["enum"])
    return r"\[.*|.*,.*" if schema["type"] == "array" else "-?[0-9]+"
