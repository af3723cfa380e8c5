"""Parameters of an operation as a pydantic model, derived from the fields of its op.

Nothing is restated: the names, types, defaults and descriptions are those of the dataclass fields, and each value is
checked by the field's own rule. pydantic adds what a wire needs: all faults at once, none ignored, and the JSON schema.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema, create_model

from cnn_core.errors import ParameterError, describe
from cnn_core.ops.base import Op
from cnn_core.parameters import Rule
from service.codecs.names import pointer_to
from service.codecs.text import NOT_GIVEN
from service.problems import Finding, InvalidRequest

__all__ = ["parameter_model", "rule_field", "unknown_names", "validated"]

MAX_PARAMETERS = 32
"""Maximum number of parameters, more than any operation has: a bound on the findings of one response."""


OTHER_NAMES = {
    # the notebook's
    "a_prev": "input",
    "prev_a": "input",
    "b": "bias",
    "pad": "padding",
    "filter_size": "kernel_size",
    "grad_y": "grad_output",
    "grad_a": "grad_output",
    # the frameworks'
    "x": "input",
    "w": "weight",
    "kernel": "kernel_size",
    "filter": "weight",
    "filters": "weight",
    "ksize": "kernel_size",
    "kernel_shape": "kernel_size",
    "pool_size": "kernel_size",
    "window_shape": "kernel_size",
    "pads": "padding",
    "auto_pad": "padding",
    "strides": "stride",
    "dilations": "dilation",
    "dilation_rate": "dilation",
    "group": "groups",
    "feature_group_count": "groups",
    "p": "norm_type",
    "dout": "grad_output",
    "dy": "grad_output",
}
"""Other names of operands and parameters, in lower case, and what they are called here; to be suggested."""


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
    allowed_with: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the parameters that were given, in canonical form; null, where it is not refused, is not given.

    Parameters
    ----------
    model : type of BaseModel
    values : mapping of str to object
        The parameters as they came; those that are NOT_GIVEN are left out.
    other_known_names : sequence of str
        Names that may be given but are not parameters, to be suggested for an unknown one.
    allowed_with : mapping of str to str
        Names that are parameters under a condition that is not met, and the condition.

    Raises
    ------
    InvalidRequest
        With a finding for each parameter that is unknown, missing or has a value that its rule refuses.
    """
    if len(values) > MAX_PARAMETERS:
        got, expected = f"{len(values)} parameters", f"at most {MAX_PARAMETERS}"
        raise InvalidRequest.of("", "there are too many parameters", got=got, expected=expected)
    given = {name: value for name, value in values.items() if value is not NOT_GIVEN}
    unknown = unknown_names(model.model_fields, values, other_known_names, allowed_with)
    try:
        checked = model.model_validate({name: value for name, value in given.items() if name in model.model_fields})
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise InvalidRequest(*(_finding(model, given, dict(fault)) for fault in faults), *unknown) from None
    if unknown:
        raise InvalidRequest(*unknown)
    parameters = {name: getattr(checked, name) for name in checked.model_fields_set}
    return {name: value for name, value in parameters.items() if value is not None}


def unknown_names(
    accepted: Iterable[str],
    values: Mapping[str, Any],
    other_known_names: Sequence[str],
    allowed_with: Mapping[str, str] = MappingProxyType({}),
) -> list[Finding]:
    """Return a finding for each name that is not accepted, with the name that it is closest to."""
    known = [*other_known_names, *accepted]
    expected = f"one of {', '.join(known)}"
    findings: list[Finding] = []
    is_listed = False
    for name in [name for name in values if name not in known[len(other_known_names) :]][:MAX_PARAMETERS]:
        if name in other_known_names:
            message = f"{name} is an operand, not a parameter; send it in the request body"
            findings.append(Finding(f"/{name}", message, "an operand", "a parameter"))
            continue
        if name in allowed_with:
            fault, expected = f"{name} is a parameter only with {allowed_with[name]}", f"{allowed_with[name]}, or none"
            findings.append(Finding.of(f"/{name}", fault, got="a parameter that does not apply", expected=expected))
            continue
        pointer = pointer_to(name)
        meant = OTHER_NAMES.get(name.lower(), "")
        close = [meant] if meant in known else difflib.get_close_matches(name[:40], known, n=1)
        message = f"unknown name {pointer.removeprefix('/')}".rstrip() + (
            f"; did you mean {close[0]}?" if close else ""
        )
        if not is_listed:  # once is enough
            message += f"{' ' if close else '. '}Known here: {', '.join(known)}"
        findings.append(Finding(pointer, message, "an unknown name", "a known name" if is_listed else expected))
        is_listed = True
    return findings


def _finding(model: type[BaseModel], values: Mapping[str, Any], fault: dict[str, Any]) -> Finding:
    name = str(fault["loc"][0])
    description = model.model_fields[name].description or ""
    if fault["type"] == "missing":
        return Finding(f"/{name}", f"{name} is required. {description}", "nothing", description)
    cause = fault.get("ctx", {}).get("error")
    if isinstance(cause, ParameterError):
        return Finding(f"/{name}", cause.message, cause.got, cause.expected)
    got = describe(values[name])
    return Finding(f"/{name}", f"{name} is not valid; got {got}. {description}", got, description)
