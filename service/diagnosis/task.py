"""The check of a claim as a task: ``POST /{layer}/check``."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from cnn_core import ParameterError
from cnn_core.errors import number_of
from cnn_core.parameters import one_of

from ..codecs import Encoded, ResponseContext, Writer
from ..codecs.media_types import JSON
from ..codecs.message import TensorType
from ..codecs.text import NOT_GIVEN
from ..operations.bfloat16 import computable_types
from ..operations.operation import GRAD_OUTPUT, CatalogueEntry
from ..operations.prediction import Prediction
from ..operations.task import Plan
from ..operations.tolerance import is_floating
from ..problems import Finding, InvalidRequest
from .hypotheses.loops import MAX_TAPS
from .layer import MIN_ROOM, Layer, Tensors
from .report import Claim, report

__all__ = ["ACCUMULATION", "CLAIMED", "CheckTask", "ReportWriter", "diagnose"]

Array = NDArray[Any]

CLAIMED = "claimed_"
"""Begins the name of a tensor that the caller has computed."""

ACCUMULATION = one_of(Literal["float16", "float32", "float64"])

SEARCH_CALLS, MIN_SEARCH_WORK, MAX_SEARCH_WORK = 200, 2**32, 2**35
"""Work of the search: that of so many computations of the layer, at least and at most so much."""

COPIES = 6
"""Arrays of a claimed tensor's size that exist at a time, in float64."""

MAX_REPORT_BYTES = 2**16


@dataclass(frozen=True)
class _Checked:
    """A checked request: the op, the type of the sums, and what the search may compute."""

    op: Any
    accumulation: np.dtype[Any] | None
    search_work: int


@dataclass(frozen=True, eq=False)
class CheckTask:
    """The check of what somebody computed for a layer.

    Parameters
    ----------
    entry : CatalogueEntry
    max_work : int
        The work that a request may take, see ``Settings``.
    """

    entry: CatalogueEntry
    max_work: int

    @property
    def name(self) -> str:
        """For example conv_check."""
        return f"{self.entry.name}_check"

    @property
    def path(self) -> str:
        """For example /conv/check."""
        return f"/{self.entry.name}/check"

    @functools.cached_property
    def claimable(self) -> tuple[str, ...]:
        """Names of the results and gradients that may be claimed."""
        return tuple(name for operation in self.entry.operations for name in operation.results)

    @functools.cached_property
    def operand_names(self) -> tuple[str, ...]:
        """The operands of forward and backward, then the claimed tensors."""
        gradient = (GRAD_OUTPUT,) if len(self.entry.operations) > 1 else ()
        given = (operand.name for operand in self.entry.operands)
        return (*given, *gradient, *(f"{CLAIMED}{name}" for name in self.claimable))

    @property
    def required_operands(self) -> tuple[str, ...]:
        """Names of the operands that every request holds; and at least one claimed tensor."""
        return self.entry.forward.required_operands

    def known_plan(self, parameters: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:  # noqa: ARG002
        """Return none: a check is never small."""
        return

    def plan(self, parameters: Mapping[str, Any], tensors: Mapping[str, Array]) -> Plan:
        """Return the plan of a check: what is right, and as much of a search as the work allows.

        Raises
        ------
        InvalidRequest, ConvpoolError
        """
        findings = list(self._missing(tensors))
        given = dict(parameters)
        accumulation = given.pop("accumulation", None)
        try:
            call = self.entry.forward.parse_parameters(given, (*self.operand_names, "accumulation"))
        except InvalidRequest as problem:
            findings += problem.findings
        dtype = None
        if accumulation is not None and accumulation is not NOT_GIVEN:
            try:
                dtype = np.dtype(ACCUMULATION.check("accumulation", accumulation))
            except ParameterError as error:
                findings.append(Finding("/accumulation", error.message, error.got, error.expected))
        if findings:
            raise InvalidRequest(*findings)
        claim = self._claim(call.op, dtype, self._typed(tensors), _stand_in)
        work = claim.layer.work(claim.tensors)  # also checks the shapes
        search = min(self.max_work, MAX_SEARCH_WORK, max(MIN_SEARCH_WORK, SEARCH_CALLS * work))
        return Plan(_Checked(call.op, dtype, search), self._prediction(claim, work, search))

    def compute(self, plan: Plan, tensors: Mapping[str, Array]) -> dict[str, Any]:
        """Compare what was claimed, and search for what explains the differences."""
        checked: _Checked = plan.call
        claim = self._claim(checked.op, checked.accumulation, self._typed(tensors), _in_float64)
        with np.errstate(all="ignore"):  # NaN and infinities are compared as well
            return report(claim, plan.prediction.parameters, checked.search_work)

    def _missing(self, tensors: Mapping[str, Array]) -> list[Finding]:
        findings = [
            Finding.of(
                f"/{name}",
                f"the operand {name} is missing",
                got="nothing",
                expected=f"the operands {', '.join(self.required_operands)}",
            )
            for name in self.required_operands
            if name not in tensors
        ]
        claimed = [name for name in tensors if name.startswith(CLAIMED)]
        if not claimed:
            expected = " or ".join(f"{CLAIMED}{name}" for name in self.claimable)
            findings.append(Finding.of("", "there is nothing to check", got="no claimed tensor", expected=expected))
        gradients = [name for name in claimed if name.startswith(f"{CLAIMED}grad_")]
        if gradients and GRAD_OUTPUT not in tensors:
            findings.append(
                Finding.of(
                    f"/{GRAD_OUTPUT}",
                    f"{gradients[0]} needs the gradient that it was computed from",
                    got="nothing",
                    expected=f"{GRAD_OUTPUT}, of the output's shape",
                )
            )
        return findings

    def _typed(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        return self.entry.forward.with_types(tensors)

    def _claim(
        self,
        op: Any,
        accumulation: np.dtype[Any] | None,
        tensors: Mapping[str, Array],
        converted: Callable[[Array], Array],
    ) -> Claim:
        claimed = {name.removeprefix(CLAIMED): array for name, array in tensors.items() if name.startswith(CLAIMED)}
        if "indices" in claimed and "indices" not in op.results:
            fault = "this pooling has no indices"
            raise InvalidRequest.of(f"/{CLAIMED}indices", fault, got=f"{CLAIMED}indices", expected="mode=max with it")
        operands: Tensors = {}
        for operand in (*self.entry.operands, self.entry.grad_output):
            array = tensors.get(operand.name)
            if array is not None:
                operands[operand.name] = array if operand.dtypes else converted(array)
        layer = Layer(self.entry, op, operands)
        gradient, output = operands.get(GRAD_OUTPUT), layer.resolved.output_shape
        if gradient is not None and gradient.ndim != len(output):
            fault = f"{GRAD_OUTPUT} must have as many axes as the output"
            got, expected = number_of(gradient.ndim, "axis", "axes"), f"{len(output)} axes, those of {list(output)}"
            raise InvalidRequest.of(f"/{GRAD_OUTPUT}", fault, got=got, expected=expected)
        largest = layer.elements(claimed) + _size(operands) + _size(claimed)
        return Claim(dataclasses.replace(layer, room=max(MIN_ROOM, 2 * largest)), claimed, accumulation)

    def _prediction(self, claim: Claim, work: int, search: int) -> Prediction:
        layer = claim.layer
        own = _size(layer.tensors) + layer.elements(claim.tensors)
        loops = COPIES * min(MAX_TAPS, layer.resolved.multiply_accumulates)
        types = {name: array.dtype for name, array in layer.tensors.items() if name != GRAD_OUTPUT}
        itemsize = layer.op.computation_dtype(computable_types(layer.op, self.entry.operands, types)).itemsize
        return Prediction(
            parameters=self.entry.resolved_parameters(layer.op, layer.resolved, itemsize),
            results=(TensorType((MAX_REPORT_BYTES,), np.dtype(np.uint8)),),
            workspace_bytes=8 * (2 * own + COPIES * _size(claim.tensors) + loops + layer.room),
            work=3 * work + search,
        )


def _size(tensors: Mapping[str, Array]) -> int:
    """Return the elements of all tensors together."""
    return sum(array.size for array in tensors.values())


def _computed_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float64) if is_floating(dtype) or dtype.kind in "iu" else dtype


def _in_float64(array: Array) -> Array:
    return array.astype(_computed_type(array.dtype))


def _stand_in(array: Array) -> Array:
    """Return an array like that of ``_in_float64`` that takes no memory: none is granted before there is a plan."""
    return np.broadcast_to(np.zeros((), _computed_type(array.dtype)), array.shape)


class ReportWriter(Writer):
    """Writes the report of a check, which is JSON whatever the request was."""

    media_type: ClassVar[str] = JSON
    title: ClassVar[str] = "JSON"
    charset: ClassVar[str] = "utf-8"
    compressible: ClassVar[bool] = True

    def encode(self, results: Any, response: ResponseContext) -> Encoded:  # noqa: ARG002
        """Encode a report."""
        return Encoded([orjson.dumps(results), b"\n"])


def diagnose(entry: CatalogueEntry, parameters: Mapping[str, Any], tensors: Mapping[str, Array]) -> dict[str, Any]:
    """Check what somebody computed, without a server.

    Parameters
    ----------
    entry : CatalogueEntry
        The layer.
    parameters : mapping of str to object
    tensors : mapping of str to ndarray
        The operands, and what was computed: ``claimed_output``, ``claimed_grad_input``, ...

    Returns
    -------
    dict
        The response to the check.

    Raises
    ------
    InvalidRequest, ConvpoolError
    """
    task = CheckTask(entry, MAX_SEARCH_WORK)
    return task.compute(task.plan(parameters, tensors), tensors)
