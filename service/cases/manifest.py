"""The manifest of an archive of cases: what each case is, and what its tensors are called."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from cnn_core import __version__

from .call import CasesCall
from .computing import Case

__all__ = ["FORMAT", "case_entry", "case_name", "manifest_text", "purpose_of", "shared_members"]

FORMAT = "convpool-cases-1"
"""What an archive says it is; another layout of the manifest or the names gets another number."""

PURPOSES = {
    "random": "Random numbers: each result is the exact one, rounded once.",
    "integers": "Small integers: every sum is exact, so results are compared for equality.",
}


def case_name(number: int) -> str:
    """Return the name of a case, which the names of its tensors begin with."""
    return f"case_{number:04}"


def shared_members(call: CasesCall) -> dict[str, Any]:
    """Return what all cases of an archive have in common."""
    return {
        "format": FORMAT,
        "convpool": __version__,
        "layer": call.entry.name,
        "kind": call.kind,
        "seed": call.seed,
        "dtype": call.dtype.name,
    }


def purpose_of(case: Case, call: CasesCall) -> str:
    """Return what a case is for, in a sentence."""
    edge = case.layer.edge
    return PURPOSES[call.kind] if edge is None else f"{edge.id}: {edge.purpose}"


def case_entry(call: CasesCall, case: Case, number: int) -> dict[str, Any]:
    """Return what the manifest says of a case."""
    layer = case.layer
    return {
        "name": case_name(number),
        "purpose": purpose_of(case, call),
        "parameters": call.entry.resolved_parameters(layer.op, layer.resolved, 8),
        "operands": {name: _described(array) for name, array in case.operands.items()},
        "results": {
            name: _described(array) | {"tolerance": tolerance_of(case, name)} for name, array in case.results.items()
        },
    }


def tolerance_of(case: Case, name: str) -> dict[str, Any]:
    """Return what a result may be off by."""
    absolute, terms = case.tolerances[name]
    return {"absolute": absolute, "terms": terms}


def _described(array: NDArray[Any]) -> dict[str, Any]:
    return {"shape": array.shape, "dtype": array.dtype.name}


def manifest_text(content: Mapping[str, Any]) -> bytes:
    """Return a manifest, or a part of it, as JSON; written by the standard library, so always in the same way."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
