"""An operation: one direction of a layer, as the service offers it.

Everything that routes, documentation and validation need is derived here from the declaration of the layer's ops.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from cnn_core import ParameterError, get_threads
from cnn_core.ops.base import Op, Operand, ResolvedOp
from cnn_core.parameters import Direction, Rule, one_of, subset_of

from ..codecs.buffers import converted
from ..codecs.names import pointer_to
from ..codecs.text import NOT_GIVEN
from ..problems import Finding, InvalidRequest
from .bfloat16 import computable_types, returned_types
from .parameters import parameter_model, rule_field, validated
from .prediction import OperandTypes, Prediction, predicted
from .task import Plan
from .unknown_names import unknown_names

__all__ = ["GRAD_OUTPUT", "CatalogueEntry", "Operation", "ParsedCall"]

GRAD_OUTPUT = "grad_output"
"""Name of the operand that only backward has."""


@dataclass(frozen=True, eq=False)
class CatalogueEntry:
    """A layer of the catalogue: its name in the URL, and its op, or its ops by the value of a parameter.

    Parameters
    ----------
    name : str
        First part of the paths.
    title : str
        What the layer is, for the documentation.
    ops : dict of str to type of Op
        The ops by the value of ``selector``; a single one named "" if there is no selector.
    example : dict
        Parameters and operands (nested lists) of a small example.
    selector : str
        Name of the parameter that selects the op.
    """

    name: str
    title: str
    ops: Mapping[str, type[Op]]
    example: Mapping[str, Any]
    selector: str = ""

    @functools.cached_property
    def operands(self) -> tuple[Operand, ...]:
        """The operands of forward; the same for all ops of a layer."""
        return next(iter(self.ops.values())).operands

    @functools.cached_property
    def grad_output(self) -> Operand:
        """The operand that backward has beside those of forward."""
        layout = next(iter(self.ops.values())).output_layout
        return Operand(GRAD_OUTPUT, "Gradient with respect to the output: of the output's shape.", layout)

    @functools.cached_property
    def forward(self) -> Operation:
        """The operation that computes the layer."""
        return Operation(self, "forward")

    @functools.cached_property
    def operations(self) -> tuple[Operation, ...]:
        """The layer's operations: forward, and backward where its ops have gradients."""
        differentiable = all(op.differentiable for op in self.ops.values())
        return (self.forward, Operation(self, "backward")) if differentiable else (self.forward,)

    def resolve(self, op: Op, shapes: Mapping[str, Sequence[int]]) -> ResolvedOp[Any]:
        """Resolve an op for operands of these shapes, by name."""
        given = (shapes.get(operand.name) for operand in self.operands)
        try:
            return op.cached_resolve(*(None if shape is None else tuple(shape) for shape in given))
        except ParameterError as error:
            hint = _padding_hint(op, len(shapes["input"]) - 2) if error.subject == "padding" else ""
            if not hint:
                raise
            raise InvalidRequest(Finding("/padding", f"{error.message}; {hint}", error.got, error.expected)) from None

    def choose(self, parameters: Mapping[str, Any]) -> type[Op]:
        """Return the op that the parameters select.

        Raises
        ------
        InvalidRequest
        """
        if not self.selector:
            return self.ops[""]
        value = parameters.get(self.selector)
        rule = self._selector_rule
        if value is None or value is NOT_GIVEN:
            raise InvalidRequest.of(
                f"/{self.selector}", f"{self.selector} is required", got="nothing", expected=rule.text
            )
        try:
            return self.ops[rule.check(self.selector, value)]
        except ParameterError as error:
            finding = Finding(f"/{self.selector}", error.message, error.got, error.expected)
            raise InvalidRequest(finding) from None

    @functools.cached_property
    def _selector_rule(self) -> Rule:
        return one_of(Literal[tuple(self.ops)])

    def selecting(self, op: type[Op]) -> dict[str, str]:
        """Return the parameter that selects an op; none if the layer has only that one."""
        value = next((value for value, candidate in self.ops.items() if candidate is op), "")
        return {self.selector: value} if self.selector else {}

    def resolved_parameters(
        self, op: Op, entry: ResolvedOp[Any], itemsize: int, direction: Direction = "forward"
    ) -> dict[str, Any]:
        """Return every parameter as it is in a layer, the selecting one first."""
        return self.selecting(type(op)) | op.resolved_parameters(entry, itemsize, direction)

    def selector_field(self, op: type[Op]) -> dict[str, tuple[Any, Any]]:
        """Return the definition of the selecting parameter for one op's parameter model."""
        return {name: (Literal[value], ...) for name, value in self.selecting(op).items()}


@dataclass(frozen=True)
class ParsedCall:
    """An operation with its parameters: the op, and the arguments of the call that are not the op's parameters."""

    op: Op
    options: Mapping[str, Any]


MAX_PLANS, MAX_PLAN_KEY = 1024, 1000
"""Plans that an operation remembers, and the maximum length of the parameters that one is found by."""


@dataclass(frozen=True, eq=False)
class Operation:
    """One direction of a layer."""

    entry: CatalogueEntry
    direction: Direction

    @property
    def name(self) -> str:
        """Name in /ops, for example conv_forward."""
        return f"{self.entry.name}_{self.direction}"

    @property
    def path(self) -> str:
        """Path in the URL, for example /conv/forward."""
        return f"/{self.entry.name}/{self.direction}"

    @property
    def operands(self) -> tuple[Operand, ...]:
        """The tensors that a request holds."""
        given = self.entry.operands
        return given if self.direction == "forward" else (self.entry.grad_output, *given)

    @functools.cached_property
    def results(self) -> tuple[str, ...]:
        """The tensors that a response may hold; some of them only if requested."""
        ops = self.entry.ops.values()
        if self.direction == "forward":
            return tuple(dict.fromkeys(name for op in ops for name in op.results))
        return tuple(f"grad_{name}" for name in next(iter(ops)).differentiable)

    @functools.cached_property
    def operand_names(self) -> tuple[str, ...]:
        """Names of the operands in their order."""
        return tuple(operand.name for operand in self.operands)

    @functools.cached_property
    def required_operands(self) -> tuple[str, ...]:
        """Names of the operands that every request holds."""
        return tuple(operand.name for operand in self.operands if not operand.optional)

    @functools.cached_property
    def models(self) -> Mapping[type[Op], type[BaseModel]]:
        """The model of the parameters for each op of the layer."""
        return {
            op: parameter_model(op, self.entry.selector_field(op) | self._call_fields(op))
            for op in self.entry.ops.values()
        }

    def _call_fields(self, op: type[Op]) -> dict[str, tuple[Any, Any]]:
        if self.direction == "forward" or len(op.differentiable) == 1:
            return {}
        rule = subset_of(op.differentiable)
        description = "Operands whose gradients are computed and returned."
        return {"wrt": rule_field("wrt", tuple[str, ...], rule, description, op.differentiable)}

    def parse_parameters(self, parameters: Mapping[str, Any], other_known_names: Sequence[str] = ()) -> ParsedCall:
        """Check the parameters and return the parsed call.

        Parameters
        ----------
        parameters : mapping of str to object
        other_known_names : sequence of str
            Names that may be given but are not parameters, to be suggested for an unknown one.

        Raises
        ------
        InvalidRequest
        """
        try:
            op = self.entry.choose(parameters)
        except InvalidRequest as problem:
            # the name that selects the op may be the misspelt one
            accepted = dict.fromkeys(name for model in self.models.values() for name in model.model_fields)
            raise InvalidRequest(*problem.findings, *unknown_names(accepted, parameters, other_known_names)) from None
        parameters = {**parameters, **self.entry.selecting(op)}
        values = validated(self.models[op], parameters, other_known_names, self._explained[op])
        own = {field.name for field in op.parameters()}
        options = {name: value for name, value in values.items() if name not in own | {self.entry.selector}}
        try:
            return ParsedCall(op(**{name: value for name, value in values.items() if name in own}), options)
        except ParameterError as error:  # parameters that do not go together
            pointer = pointer_to(error.subject)
            raise InvalidRequest(Finding(pointer, error.message, error.got, error.expected)) from None

    @functools.cached_property
    def _explained(self) -> Mapping[type[Op], Mapping[str, str]]:
        """Why names are not accepted for an op, although they are known elsewhere."""
        selector, ops = self.entry.selector, self.entry.ops
        general = {}
        if "weight" in self.operand_names:
            general["kernel_size"] = "is not a parameter here: it is taken from the shape of weight"
        if self.direction == "forward" and len(self.entry.operations) > 1:
            of_backward = Operation(self.entry, "backward")
            only = f"belongs to {of_backward.path}, not to this call"
            general |= dict.fromkeys([GRAD_OUTPUT, "wrt"], only)
        return {
            op: general
            | {
                name: f"is a parameter only with {selector}={value}"
                for value, other in ops.items()
                for name in self.models[other].model_fields
                if name not in self.models[op].model_fields
            }
            for op in ops.values()
        }

    def parse(self, parameters: Mapping[str, Any], operands: Collection[str]) -> ParsedCall:
        """Check the parameters, and that every required operand is there; return the parsed call.

        Raises
        ------
        InvalidRequest
            With everything that is wrong with either.
        """
        expected = f"the operands {', '.join(self.required_operands)}"
        findings = [
            Finding.of(f"/{name}", f"the operand {name} is missing", got="nothing", expected=expected)
            for name in self.required_operands
            if name not in operands
        ]
        try:
            call = self.parse_parameters(parameters, self.operand_names)
        except InvalidRequest as problem:
            raise InvalidRequest(*findings, *problem.findings) from None
        if findings:
            raise InvalidRequest(*findings)
        return call

    def with_types(self, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Give numbers without a type of their own, as JSON's are, the type of the operand that they belong to.

        Raises
        ------
        InvalidRequest
            If a number is given for an operand whose type cannot be derived.
        """
        typed = dict(tensors)
        for operand in self.operands:
            tensor = tensors.get(operand.name)
            if tensor is None or tensor.ndim or tensor.dtype != np.float64:
                continue
            if not operand.dtypes or "float64" in operand.dtypes:
                continue
            belongs_to = tensors.get(operand.type_of)
            if belongs_to is not None and _is_integer_of(tensor.item(), belongs_to.dtype):
                typed[operand.name] = tensor.astype(belongs_to.dtype)
                continue
            example = f'{{"dtype": "{operand.dtypes[0]}", "shape": [], "data": [0]}}'
            fault = f"{operand.name} is a number without a type, or outside the range of its type"
            expected = f"a tensor of {' or '.join(operand.dtypes)}"
            hint = f"write it like {example}"
            raise InvalidRequest.of(f"/{operand.name}", fault, got=tensor.dtype.name, expected=expected, hint=hint)
        return typed

    def plan(self, parameters: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Plan:
        """Return the plan of a call: check its parameters and operands, and predict it, unless its like is known.

        Raises
        ------
        InvalidRequest, ConvpoolError
        """
        known = self.known_plan(parameters, tensors)
        if known is not None:
            return known
        call = self.parse(parameters, tensors)
        plan = Plan(call, self.predict(call, self.with_types(tensors)))
        key = _plan_key(parameters, tensors)
        if len(key[0]) <= MAX_PLAN_KEY:
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            self._plans[key] = plan
        return plan

    def known_plan(self, parameters: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Plan | None:
        """Return the plan of a call like one that was planned before, if there was one."""
        try:
            return self._plans.get(_plan_key(parameters, tensors))
        except RecursionError:  # nested more deeply than any value that a plan was made for
            return None

    @functools.cached_property
    def _plans(self) -> dict[tuple[str, OperandTypes, int], Plan]:
        return {}

    def predict(self, call: ParsedCall, tensors: Mapping[str, NDArray[Any]]) -> Prediction:
        """Predict a call from the shapes and types of its operands; allocates nothing.

        Raises
        ------
        ConvpoolError
            If the operands fit neither each other nor the parameters.
        """
        operands = tuple((name, tensor.shape, tensor.dtype) for name, tensor in tensors.items())
        return predicted(self, call.op, call.options.get("wrt"), operands)

    def compute(self, plan: Plan, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Compute the results by name."""
        return self.results_of(plan.call, self.with_types(tensors))

    def results_of(self, call: ParsedCall, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Compute the results of a parsed call by name; the operands have their types."""
        given = {name: tensor.dtype for name, tensor in tensors.items()}
        dtypes = computable_types(call.op, self.operands, given)
        arrays = {name: converted(tensor, dtypes[name]) for name, tensor in tensors.items()}
        returned = getattr(call.op, self.direction)(
            *(arrays.get(operand.name) for operand in self.operands), **call.options
        )
        if isinstance(returned, np.ndarray):
            (name,) = call.op.result_names() if self.direction == "forward" else self.results
            results = {name: returned}
        else:
            results = {name: array for name, array in returned._asdict().items() if array is not None}
        types = returned_types(self.operands, given, {name: result.dtype for name, result in results.items()})
        return {name: converted(result, types[name]) for name, result in results.items()}


def _plan_key(parameters: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> tuple[str, OperandTypes, int]:
    types = tuple((name, tensor.shape, tensor.dtype) for name, tensor in tensors.items())
    return repr(parameters), types, get_threads()  # the memory depends on the number of threads


def _padding_hint(op: Op, rank: int) -> str:
    """Say how padding is written per side, if it is as ONNX has it: all begins, then all ends."""
    padding: Any = getattr(op, "padding", None)
    if not isinstance(padding, tuple) or len(padding) != 2 * rank or not all(isinstance(each, int) for each in padding):
        return ""
    pairs = ", ".join(f"[{padding[axis]}, {padding[axis + rank]}]" for axis in range(rank))
    return f"for ONNX's pads write [before, after] for each axis: [{pairs}]"


def _is_integer_of(value: float, dtype: np.dtype[Any]) -> bool:
    """Return whether a number is an integer that a type holds."""
    return dtype.kind in "iu" and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max and value.is_integer()
