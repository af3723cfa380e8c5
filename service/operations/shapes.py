"""The shape calls: what a layer does to operands of given shapes, without any tensor."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import MISSING
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, create_model

from cnn_core import ConvpoolError, ParameterError
from cnn_core.errors import describe
from cnn_core.ops.base import Operand
from cnn_core.parameters import Rule, one_of

from ..codecs.json_schemas import SHAPE_SCHEMA
from ..codecs.message import OPERAND_DTYPES, TensorType
from ..codecs.names import pointer_to
from ..problems import Finding, InvalidRequest
from .bfloat16 import computable_types, returned_types
from .operation import CatalogueEntry
from .parameters import rule_field, validated

__all__ = ["DTYPE_SCHEMA", "ShapeResponse", "predict_shapes", "shapes_model"]

OTHER_MEMBERS = ("shapes", "dtype")
DTYPE = one_of(Literal[OPERAND_DTYPES])
DTYPE_SCHEMA = {"title": "OperandDtype", **DTYPE.schema}


def _sizes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, (list, tuple)) or any(type(size) is not int or size < 0 for size in value):
        raise ValueError
    return tuple(value)


SHAPE = Rule(
    "a list of integers >= 0, one for each axis",
    _sizes,
    SHAPE_SCHEMA,
)

Int64 = Annotated[int, Field(json_schema_extra={"format": "int64"})]
Pair = Annotated[list[Int64], Field(min_length=2, max_length=2)]
RESOLVED_PARAMETERS = {"title": "ResolvedParameters", "type": "object", "additionalProperties": True}


class ShapeResponse(BaseModel):
    """What a layer does to operands of given shapes."""

    output_shape: list[Int64] = Field(description="Shape of the output.")
    parameters: Annotated[dict[str, Any], WithJsonSchema({"allOf": [RESOLVED_PARAMETERS]})] = Field(
        description="Every parameter as it was resolved: the defaults, strides for each axis, padding for each side."
    )
    padding: list[Pair] = Field(description="The padding before and after, for each spatial axis.")
    multiply_accumulates: Int64 = Field(
        description="Multiplications with addition of forward; for pooling, taps that enter a sum or a comparison."
    )
    dtype: Annotated[str, WithJsonSchema({"allOf": [DTYPE_SCHEMA]})] = Field(
        description="The type of the operands that the bytes are counted for; that of the first one."
    )
    bytes_in: Int64 = Field(description="Bytes of the operands of forward.")
    bytes_out: Int64 = Field(description="Bytes of the results.")


@functools.cache
def shapes_model(entry: CatalogueEntry) -> type[BaseModel]:
    """Return the model of the shapes of a layer's operands."""
    fields: dict[str, Any] = {}
    for operand in entry.operands:
        default, annotation = (None, tuple[int, ...] | None) if operand.optional else (MISSING, tuple[int, ...])
        fields[operand.name] = rule_field(operand.name, annotation, SHAPE, f"Shape of {operand.name}.", default)
    return create_model(f"{entry.name}_shapes", __config__=ConfigDict(extra="forbid"), **fields)


def predict_shapes(entry: CatalogueEntry, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the response to a shape call.

    Raises
    ------
    InvalidRequest
        If a parameter or a shape breaks a rule. Pointers to shapes start with ``/shapes``.
    """
    parameters = {name: value for name, value in content.items() if name not in OTHER_MEMBERS}
    findings: list[Finding] = []
    try:
        op = entry.forward.parse_parameters(parameters, OTHER_MEMBERS).op
    except InvalidRequest as problem:
        findings.extend(problem.findings)
    try:
        shapes = _shapes(entry, content.get("shapes"))
    except InvalidRequest as problem:
        findings.extend(problem.findings)
    try:
        operand_type = np.dtype(DTYPE.check("dtype", content.get("dtype", "float64")))
    except ParameterError as error:
        findings.append(Finding("/dtype", error.message, error.got, error.expected))
    if findings:
        raise InvalidRequest(*findings)
    try:
        resolved = entry.resolve(op, shapes)
    except ConvpoolError as error:
        parent = "/shapes" if error.subject in shapes else ""
        finding = Finding(parent + pointer_to(error.subject), error.message, error.got, error.expected)
        raise InvalidRequest(finding) from None
    types = {operand.name: _type_of(operand, operand_type) for operand in entry.operands if operand.name in shapes}
    operands = [TensorType(shape, types[name]) for name, shape in shapes.items()]
    computable = computable_types(op, entry.operands, types)
    result_dtypes = returned_types(entry.operands, types, op.result_dtypes(computable))
    results = [TensorType(resolved.result_shapes[name], dtype) for name, dtype in result_dtypes.items()]
    return ShapeResponse(
        output_shape=list(resolved.output_shape),
        parameters=entry.resolved_parameters(op, resolved, op.computation_dtype(computable).itemsize),
        padding=[list(pair) for pair in resolved.windows.padding],
        multiply_accumulates=resolved.multiply_accumulates,
        dtype=next(iter(types.values())).name,
        bytes_in=sum(operand.nbytes for operand in operands),
        bytes_out=sum(result.nbytes for result in results),
    ).model_dump(mode="json")


def _type_of(operand: Operand, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type that an operand is counted in: its own, or the given one where it shares in that."""
    if not operand.dtypes:
        return dtype
    own = np.dtype(operand.dtypes[0])
    return dtype if dtype.name in operand.dtypes and (dtype.kind == "f") == (own.kind == "f") else own


def _shapes(entry: CatalogueEntry, value: Any) -> dict[str, tuple[int, ...]]:
    if not isinstance(value, dict):
        got = "nothing" if value is None else describe(value)
        expected = "an object with the shape of each operand of forward"
        raise InvalidRequest.of("/shapes", "shapes is missing or not an object", got=got, expected=expected)
    try:
        return validated(shapes_model(entry), value)
    except InvalidRequest as problem:
        raise InvalidRequest(
            *(dataclasses.replace(finding, pointer=f"/shapes{finding.pointer}") for finding in problem.findings)
        ) from None
