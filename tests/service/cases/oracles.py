"""What independent loops compute for a case: sums of Python's floats, one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from service.cases.call import CasesCall, draw_layer
from service.cases.computing import Case, compute_case
from service.cases.manifest import case_entry
from service.cases.request import parsed
from service.operations.catalogue import CATALOGUE
from service.operations.operation import CatalogueEntry
from tests.declarations import BY_NAME
from tests.declarations import declaration as declarations
from tests.oracle.windows import AnyArray

ENTRIES = {entry.name: entry for entry in CATALOGUE}
FLOATING = [entry for entry in CATALOGUE if not entry.operands[0].dtypes]

NOT_OF_THE_LOOPS = ("spatial_axes", "algorithm", "framework", "mode")
OF_WINDOWS_OF_ONE_SIZE = ("padding", "dilation", "ceil_mode", "count_include_pad")


def call_of(layer: str, **content: Any) -> CasesCall:
    """A checked request."""
    return parsed(ENTRIES[layer], content)


def cases_of(call: CasesCall) -> list[Case]:
    """All cases of a request."""
    return [compute_case(call, draw_layer(call, number), number) for number in range(call.count)]


def parameters_of(entry: CatalogueEntry, call: CasesCall, case: Case) -> dict[str, Any]:
    """The parameters that the manifest says of a case."""
    assert call.entry is entry
    parameters: dict[str, Any] = case_entry(call, case, 0)["parameters"]
    return parameters


def expected(call: CasesCall, case: Case) -> dict[str, AnyArray]:
    """The results of the loops in float64, from the operands and the parameters of the manifest alone."""
    parameters = parameters_of(call.entry, call, case)
    declared = BY_NAME[parameters.get("mode", call.entry.name)]
    own = {name: value for name, value in parameters.items() if name not in NOT_OF_THE_LOOPS}
    if own.get("padding_mode") == "zeros":
        del own["padding_mode"]
    if call.entry.name == "pool" and "output_size" in own:
        own = {name: value for name, value in own.items() if name not in OF_WINDOWS_OF_ONE_SIZE}
    operands = {
        name: array.astype(np.float64) if call.is_floating and array.dtype.kind == "f" else array
        for name, array in case.operands.items()
    }
    gradient = operands.pop("grad_output", None)
    loops = declarations.Case(own, operands, gradient)
    results = declared.expected(loops)
    if gradient is not None:
        results |= declared.expected_gradients(loops)
    return results


def rounded(array: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    """A result of the loops in the type of a case."""
    if array.dtype.kind != "f":
        return array
    with np.errstate(all="ignore"):
        return array.astype(dtype)
