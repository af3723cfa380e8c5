"""Parameters of an operation as a pydantic model, derived from the fields of its op.

Nothing is restated: the names, types, defaults and descriptions are those of the dataclass fields, and each value is
checked by the field's own rule. pydantic adds what a wire needs: all faults at once, none ignored, and the JSON schema.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, get_type_hints

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema, create_model

from cnn_core.errors import ParameterError, describe
from cnn_core.ops.base import Op
from cnn_core.parameters import Rule

from ..codecs.text import NOT_GIVEN
from ..problems import Finding, InvalidRequest
from .unknown_names import MAX_PARAMETERS, unknown_names

__all__ = ["parameter_model", "rule_field", "validated"]


def rule_field(name: str, annotation: Any, rule: Rule, description: str, default: Any) -> tuple[Any, Any]:
    """Return a field definition for ``create_model`` whose values are checked by a rule of the core."""
    default = ... if default is dataclasses.MISSING else default
    text = f"{description} Must be {rule.text}."
    schema = WithJsonSchema(dict(rule.schema))
    checked = Annotated[annotation, BeforeValidator(lambda value: rule.check(name, value)), schema]
    return checked, Field(default, description=text)


def parameter_model(op: type[Op], extra: Mapping[str, tuple[Any, Any]]) -> type[BaseModel]:
    """Return the model of an op's parameters.

    Parameters
    ----------
    op : type of Op
    extra : mapping of str to field definition
        Further parameters, which are not the op's own.
    """
    hints = get_type_hints(op)
    fields = {
        field.name: rule_field(
            field.name, hints[field.name], field.metadata["rule"], field.metadata["description"], field.default
        )
        for field in op.parameters()
    }
    config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
    definitions: dict[str, Any] = {**extra, **fields}
    return create_model(f"{op.__name__}Parameters", __config__=config, **definitions)


def validated(
    model: type[BaseModel],
    values: Mapping[str, Any],
    other_known_names: Sequence[str] = (),
    explained: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the parameters that were given, in canonical form; null, where it is not refused, is not given.

    Parameters
    ----------
    model : type of BaseModel
    values : mapping of str to object
        The parameters as they came; those that are NOT_GIVEN are left out.
    other_known_names : sequence of str
        Names that may be given but are not parameters, to be suggested for an unknown one.
    explained : mapping of str to str
        Names that are not accepted here, and why; see ``unknown_names``.

    Raises
    ------
    InvalidRequest
        With a finding for each parameter that is unknown, missing or has a value that its rule refuses.
    """
    if len(values) > MAX_PARAMETERS:
        got, expected = f"{len(values)} parameters", f"at most {MAX_PARAMETERS}"
        raise InvalidRequest.of("", "there are too many parameters", got=got, expected=expected)
    given = {name: value for name, value in values.items() if value is not NOT_GIVEN}
    unknown = unknown_names(model.model_fields, values, other_known_names, explained)
    try:
        checked = model.model_validate({name: value for name, value in given.items() if name in model.model_fields})
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise InvalidRequest(*(_finding(model, given, dict(fault)) for fault in faults), *unknown) from None
    if unknown:
        raise InvalidRequest(*unknown)
    parameters = {name: getattr(checked, name) for name in checked.model_fields_set}
    return {name: value for name, value in parameters.items() if value is not None}


def _finding(model: type[BaseModel], values: Mapping[str, Any], fault: dict[str, Any]) -> Finding:
    name = str(fault["loc"][0])
    description = model.model_fields[name].description or ""
    if fault["type"] == "missing":
        return Finding(f"/{name}", f"{name} is required. {description}", "nothing", description)
    cause = fault.get("ctx", {}).get("error")
    if isinstance(cause, ParameterError):
        message = f"{cause.message}; {QUOTED}" if _is_quoted(values[name]) else cause.message
        return Finding(f"/{name}", message, cause.got, cause.expected)
    got = describe(values[name])
    return Finding(f"/{name}", f"{name} is not valid; got {got}. {description}", got, description)


QUOTED = "write numbers and lists in JSON without quotes"


def _is_quoted(value: Any) -> bool:
    """Return whether a value is text that would be a number or a list without its quotes."""
    if not isinstance(value, str):
        return False
    try:
        return isinstance(orjson.loads(value), (int, float, list))
    except orjson.JSONDecodeError:
        return False
