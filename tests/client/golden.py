"""Archives of cases and a report, as the service writes them; the results are those of the tests' loops."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np

from tests.declarations import BY_NAME
from tests.declarations.declaration import Case


def archive(*cases: dict[str, Any], layer: str = "conv", **changes: Any) -> bytes:
    """An archive of convolutions, unless there are other cases; the same bytes at any time."""
    cases = cases or (conv_case(0), conv_case(1, purpose="stride over kernel", stride=[4]), conv_case(2))
    manifest: dict[str, Any] = {
        "format": "convpool-cases-1",
        "convpool": "0.2.0",
        "layer": layer,
        "kind": "random",
        "seed": 0,
        "dtype": "float64",
        "cases": [],
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        for case in cases:
            name = f"case_{len(manifest['cases']):04}"
            described: dict[str, Any] = {"name": name, "purpose": case["purpose"], "parameters": case["parameters"]}
            for group in ("operands", "results"):
                described[group] = {
                    member: {"shape": list(array.shape), "dtype": array.dtype.name}
                    for member, array in case[group].items()
                }
                for member, array in case[group].items():
                    content = io.BytesIO()
                    np.save(content, array)
                    written.writestr(zipfile.ZipInfo(f"{name}/{member}.npy"), content.getvalue())
            for result in described["results"].values():
                result["tolerance"] = {"absolute": case["tolerance"], "terms": 6}
            manifest["cases"].append(described)
        written.writestr(zipfile.ZipInfo("manifest"), json.dumps(manifest | changes))
    return file.getvalue()


def conv_case(seed: int, purpose: str = "", tolerance: float = 1e-12, **parameters: Any) -> dict[str, Any]:
    """A case of a convolution with one spatial axis."""
    random = np.random.default_rng(seed)
    operands = {"input": random.standard_normal((2, 9, 3)), "weight": random.standard_normal((2, 3, 4))}
    return case_of("conv", operands, {"stride": [1], **parameters}, purpose, tolerance)


def case_of(
    name: str, operands: dict[str, Any], parameters: dict[str, Any], purpose: str = "", tolerance: float = 1e-12
) -> dict[str, Any]:
    """A case of a layer whose results are those of its declaration's loops."""
    declaration = BY_NAME[name]
    case = Case(parameters, operands)
    grad_output = np.ones(declaration.output_shape(case))
    with_gradient = Case(parameters, operands, grad_output)
    results = {**declaration.expected(with_gradient), **declaration.expected_gradients(with_gradient)}
    return {
        "purpose": purpose,
        "parameters": parameters,
        "operands": operands | {"grad_output": grad_output},
        "results": results,
        "tolerance": tolerance,
    }


REPORT: dict[str, Any] = {
    "agrees": False,
    "tensors": {
        "output": {
            "agrees": False,
            "shape": {"got": [1, 2, 1], "expected": [1, 2, 1]},
            "dtype": "float32",
            "max_absolute_error": "Infinity",
            "elements_off": 1,
            "fraction_off": 0.5,
            "tolerance": {"largest": 1e-6, "terms": 4, "unit_roundoff": 5.9e-8, "reason": "4 terms"},
            "first_difference": {"index": [0, 1, 0], "got": "Infinity", "expected": 1.5, "window": {}},
            "where": {"pattern": "last", "sentence": "Only the last position is off."},
        },
        "grad_input": {
            "agrees": False,
            "shape": {"got": [1, 2], "expected": [2, 1]},
            "dtype": "float32",
            "elements_off": 2,
            "fraction_off": 1.0,
            "tolerance": {"largest": 0.0, "terms": 0, "unit_roundoff": 0.0, "reason": "exact"},
        },
        "grad_bias": {
            "agrees": True,
            "shape": {"got": [1], "expected": [1]},
            "dtype": "float32",
            "max_absolute_error": 2.5e-7,
            "max_relative_error": 1e-7,
            "max_ulps": 1.0,
            "elements_off": 0,
            "fraction_off": 0.0,
            "tolerance": {"largest": 1e-6, "terms": 4, "unit_roundoff": 5.9e-8, "reason": "4 terms"},
        },
    },
    "explanations": [
        {
            "id": "padding_other_side",
            "sentence": "The padding is on the other side.",
            "agrees": True,
            "tensors": ["output"],
            "residual": 0.0,
            "parameters": {"padding": [[1, 0]]},
            "rule": "docs/where-frameworks-disagree.md#padding",
        },
        {
            "id": "constant_factor",
            "sentence": "The result is multiplied by 2.",
            "agrees": False,
            "tensors": ["output"],
            "residual": "NaN",
            "parameters": {},
            "rule": "docs/where-frameworks-disagree.md#pooling",
        },
    ],
    "hint": "Look at the padding.",
    "parameters": {"stride": [1]},
    "tried": {"hypotheses": 12, "complete": True},
    "of a later version": 1,
}
