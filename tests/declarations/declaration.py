"""What a test declaration of an op says; every test that concerns all ops is derived from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np
from hypothesis.strategies import SearchStrategy

from cnn_core.ops.base import Op
from cnn_core.parameters import Framework
from tests.oracle.windows import AnyArray
from tests.shapes_in_memory import MemoryCase

Arrays = dict[str, AnyArray]
CLOSE = (1e-11, 1e-11)
EXACT = (0.0, 0.0)

FIRST, LAST = "channels_first", "channels_last"
LAYOUTS = {"torch": FIRST, "tensorflow": LAST, "onnx": FIRST, "jax": LAST}
LAYOUTS_OF_LAX = LAYOUTS | {"jax": FIRST}
FRAMEWORKS: tuple[Framework, ...] = get_args(Framework)


@dataclass(frozen=True, eq=False)
class Case:
    """A valid call of an op: parameters as a client writes them, and the operands of forward that are given."""

    parameters: dict[str, Any]
    operands: Arrays
    grad_output: AnyArray | None = None

    def given(self, **parameters: Any) -> Case:
        """The same operands with further parameters."""
        return replace(self, parameters={**self.parameters, **parameters})


def layout_by_framework(framework: str) -> dict[str, Any]:
    """The defaults of an op that takes nothing but its layout from a framework."""
    return {"data_format": LAYOUTS[framework]}


@dataclass(frozen=True, eq=False, repr=False)
class Declaration:
    """One op of the catalogue: how it is called, what it must compute, and what it costs.

    Parameters
    ----------
    op : type of Op
    layer : str
        Name of the catalogue entry.
    mode : str
        Value of the entry's selector, if it has one.
    cases : strategy of Case
        Random calls with every parameter that the op has, in either layout, with empty batches among them.
    forward : callable
        The oracle: takes operands and parameters by name, and returns the output or the results by name.
    backward : callable, optional
        The oracle of the gradients: takes grad_output as well, and returns the gradient or the gradients by name.
        Left out for an op without gradients.
    examples : dict of str to Case
        Small calls with operands of float64 or types of their own; the first, whose name is "", is the example.
    same_in_both_layouts : Case
        A call whose shapes are valid, and another computation, in either layout.
    multiply_accumulates : callable
        The number that ``ResolvedOp`` documents, counted from a case and its output.
    defaults : callable
        What a framework computes ``same_in_both_layouts`` with, written out from its documentation.
    frameworks : tuple of str
        Those that have the op.
    moderate_cases : strategy of Case, optional
        Random calls whose values float16 holds; ``cases`` if left out.
    memory : dict of str to MemoryCase
        Calls that allocate megabytes. Many copies of the example are always among them.
    geometries : strategy of MemoryCase, optional
        Random calls that allocate megabytes.
    batched : tuple of str
        The operands whose first axis is the batch.
    needs_workspace : bool
        Whether the example allocates anything but its results.
    forward_tolerance, backward_tolerance : tuple of float
        Relative and absolute, in float64.
    """

    op: type[Op]
    layer: str
    cases: SearchStrategy[Case]
    forward: Callable[..., Any]
    examples: Mapping[str, Case]
    same_in_both_layouts: Case
    multiply_accumulates: Callable[[Case, AnyArray], int]
    backward: Callable[..., Any] | None = None
    mode: str = ""
    defaults: Callable[[str], dict[str, Any]] = layout_by_framework
    frameworks: tuple[str, ...] = FRAMEWORKS
    moderate_cases: SearchStrategy[Case] | None = None
    memory: Mapping[str, MemoryCase] = field(default_factory=dict)
    geometries: SearchStrategy[MemoryCase] | None = None
    batched: tuple[str, ...] = ("input",)
    needs_workspace: bool = True
    forward_tolerance: tuple[float, float] = CLOSE
    backward_tolerance: tuple[float, float] = CLOSE

    def __repr__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """The mode of a pooling, else the name of the layer."""
        return self.mode or self.layer

    @property
    def example(self) -> Case:
        """A small call that uses most parameters."""
        return self.examples[""]

    def create_op(self, **parameters: Any) -> Any:
        """The op of the core with these parameters."""
        return self.op(**parameters)

    def computed(self, case: Case) -> Arrays:
        """The results of the core."""
        op = self.create_op(**case.parameters)
        return _by_name(op.forward(**case.operands), "output")

    def expected(self, case: Case) -> Arrays:
        """The results of the oracle."""
        return _by_name(self.forward(**case.operands, **case.parameters), "output")

    def computed_gradients(self, case: Case) -> Arrays:
        """The gradients of the core."""
        op = self.create_op(**case.parameters)
        return _by_name(op.backward(case.grad_output, **case.operands), "grad_input")

    def expected_gradients(self, case: Case) -> Arrays:
        """The gradients of the oracle."""
        assert self.backward is not None
        return _by_name(self.backward(case.grad_output, **case.operands, **case.parameters), "grad_input")

    def output_shape(self, case: Case) -> tuple[int, ...]:
        """The shape of the output that the core predicts."""
        operands = (case.operands.get(operand.name) for operand in self.op.operands)
        shape: tuple[int, ...] = self.create_op(**case.parameters).output_shape(
            *(None if array is None else array.shape for array in operands)
        )
        return shape


def _by_name(returned: Any, only: str) -> Arrays:
    if isinstance(returned, np.ndarray):
        return {only: returned}
    named = returned if isinstance(returned, dict) else returned._asdict()
    return {name: array for name, array in named.items() if array is not None}
