"""How far the results of float32 are from those of float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.engines import convpool, pytorch
from benchmarks.engines.computation import Computation
from benchmarks.suite import Layer

__all__ = ["errors"]

Results = dict[str, NDArray[Any]]


def errors(layer: Layer, threads: int) -> dict[str, Any]:
    """Return the largest errors of a layer's results, each relative to the largest value of that result.

    Parameters
    ----------
    layer : Layer
    threads : int

    Returns
    -------
    dict
        By whose results they are, then by result: convpool's "auto", its "fastest" where that computes anything else,
        and "pytorch" by layout; of a float64 layer none. They are compared with convpool's "auto" in float64.
        "reference" is how far PyTorch's in float64 are from these, the worst of all: a check of the reference itself.
    """
    pytorch.set_threads(threads)
    operands = layer.operands()
    exact = {name: operand.astype(np.float64) for name, operand in operands.items()}
    reference = _of_convpool(layer, exact)
    found: dict[str, Any] = {
        "reference": max(max(_apart(results, reference).values()) for results in _of_pytorch(layer, exact).values())
    }
    if layer.dtype == "float64":  # the reference itself
        return found
    for choice, options in convpool.choices(layer).items():
        found[choice] = _apart(_of_convpool(layer, operands, **options), reference)
    found["pytorch"] = {layout: _apart(results, reference) for layout, results in _of_pytorch(layer, operands).items()}
    return found


def _apart(results: Results, reference: Results) -> dict[str, float]:
    return {name: float(np.abs(results[name] - value).max() / np.abs(value).max()) for name, value in reference.items()}


def _of_convpool(layer: Layer, operands: Mapping[str, NDArray[Any]], **options: Any) -> Results:
    (computation,) = convpool.build(layer, dict(operands), **options)
    return _results(computation)


def _of_pytorch(layer: Layer, operands: Mapping[str, NDArray[Any]]) -> dict[str, Results]:
    found = {}
    for computation in pytorch.build(layer, dict(operands)):
        results = {name: value.detach() for name, value in _results(computation).items()}
        found[computation.name] = {name: _channels_last(name, value) for name, value in results.items()}
    return found


def _results(computation: Computation) -> dict[str, Any]:
    assert computation.backward is not None
    gradients = computation.backward()
    names = ("grad_input", "grad_weight", "grad_bias")[: len(gradients)]
    return {"output": computation.forward(), **dict(zip(names, gradients, strict=True))}


def _channels_last(name: str, value: torch.Tensor) -> NDArray[Any]:
    array = value.numpy()
    if name == "grad_weight":
        return np.moveaxis(array, (0, 1), (-1, -2))
    return array if name == "grad_bias" else np.moveaxis(array, 1, -1)
