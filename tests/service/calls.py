"""The calls of the service that the test declarations of the ops make, and what the core computes for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.comparisons import normal
from tests.declarations import BY_NAME, DECLARATIONS
from tests.declarations.declaration import Case, Declaration
from tests.service import payloads
from tests.service.payloads import AnyArray, Call, Operands


def declared(call: Call) -> Declaration:
    """The declaration of the op that is called."""
    return BY_NAME[str(call.parameters.get("mode") or call.path.split("/")[1])]


def call_of(declaration: Declaration, case: Case, direction: str = "forward", name: str = "") -> Call:
    """A call of the service; that of a gradient has a grad_output of the shape that the core predicts."""
    own = {"mode": declaration.mode} if declaration.mode else {}
    parameters, operands = {**own, **case.parameters}, case.operands
    if direction == "forward":
        results = tuple(declaration.create_op(**case.parameters).result_names())
    else:
        results = tuple(f"grad_{name}" for name in declaration.op.differentiable)
        operands = {"grad_output": normal(*declaration.output_shape(case), seed=4), **operands}
    path = f"/{declaration.layer}/{direction}"
    return Call(name or f"{declaration.name}_{direction}", path, dict(operands), parameters, results)


def directions(declaration: Declaration) -> tuple[str, ...]:
    return ("forward", "backward") if declaration.op.differentiable else ("forward",)


def case_of(call: Call) -> Case:
    """The case that a call was made from."""
    parameters = {name: value for name, value in call.parameters.items() if name != "mode"}
    operands = {name: array for name, array in call.operands.items() if name != "grad_output"}
    return Case(parameters, operands, call.operands.get("grad_output"))


def computed(call: Call, operands: Mapping[str, Any]) -> dict[str, AnyArray]:
    """The results of cnn_core itself, by name."""
    declaration, case = declared(call), case_of(call._replace(operands=dict(operands)))
    return declaration.computed(case) if call.path.endswith("forward") else declaration.computed_gradients(case)


def as_type(operands: Operands, dtype: str) -> dict[str, AnyArray]:
    """The operands with another floating type; those of an integer type have that for a reason."""
    return {name: array.astype(dtype) if array.dtype.kind == "f" else array for name, array in operands.items()}


def dtypes_of(arrays: Operands) -> dict[str, str]:
    return {name: array.dtype.name for name, array in arrays.items()}


def assert_identical(actual: Operands, expected: Operands) -> None:
    """The same names in the same order, and bit for bit the same arrays."""
    assert list(actual) == list(expected)
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype
        assert actual[name].shape == array.shape
        assert payloads.little_endian(actual[name]).tobytes() == payloads.little_endian(array).tobytes(), name


CALLS = [
    call_of(declaration, case, direction, "_".join(filter(None, (declaration.name, example, direction))))
    for declaration in DECLARATIONS
    for example, case in declaration.examples.items()
    for direction in directions(declaration)
]
CALLS_BY_NAME = {call.name: call for call in CALLS}
EXAMPLES = [
    call_of(declaration, declaration.example, direction)
    for declaration in DECLARATIONS
    for direction in directions(declaration)
]
"""One call of each op in each direction."""
CONV = CALLS_BY_NAME["conv_forward"]
INPUT = CONV.operands["input"]
WEIGHT = CONV.operands["weight"]
