"""What the benchmark makes of its measurements: ratios of times, and means of ratios."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.processes import DIRECTIONS, Times
from benchmarks.suite import Layer

__all__ = [
    "COMPARISONS",
    "GROUPS",
    "NAMES",
    "best_medians",
    "least_seconds",
    "medians",
    "ratios",
    "summary",
    "worst_error",
]

NAMES = {"convpool": "convpool", "pytorch": "PyTorch", "onnx_runtime": "ONNX Runtime", "jax": "JAX"}

COMPARISONS = (
    ("pytorch", DIRECTIONS),
    ("pytorch", ("forward",)),
    ("pytorch", ("backward",)),
    ("onnx_runtime", ("forward",)),
    ("jax", DIRECTIONS),
    ("jax", ("forward",)),
    ("jax", ("backward",)),
)
"""Peers, and the directions that their mean is over."""

GROUPS = {
    "given": "the layers for which the targets were set",
    "without_notebook": "all layers but the notebook's two tiny ones",
    "all": "all layers",
}

ByEngine = dict[str, dict[str, float]]


class Ratio(NamedTuple):
    """A peer's time / convpool's, of a layer in a direction."""

    value: float
    layer: str
    direction: str


def medians(times: Times) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Return the median, the quartiles and the number of the calls, by direction, engine and layout."""
    return {
        direction: {
            engine: {layout: _spread(taken) for layout, taken in by_layout.items()}
            for engine, by_layout in by_engine.items()
            if by_layout
        }
        for direction, by_engine in times.items()
    }


def _spread(taken: list[float]) -> dict[str, float]:
    lower, median, upper = np.quantile(taken, (0.25, 0.5, 0.75)).tolist()
    return {"median": median, "lower_quartile": lower, "upper_quartile": upper, "calls": len(taken)}


def best_medians(seconds: dict[str, dict[str, dict[str, dict[str, float]]]]) -> ByEngine:
    """Return the seconds by direction and engine: of the layout that is faster."""
    return {
        direction: {
            engine: min(spread["median"] for spread in by_layout.values()) for engine, by_layout in by_engine.items()
        }
        for direction, by_engine in seconds.items()
    }


def ratios(best: ByEngine) -> ByEngine:
    """Return each peer's time / convpool's, by direction and peer."""
    return {
        direction: {peer: seconds / by_engine["convpool"] for peer, seconds in by_engine.items() if peer != "convpool"}
        for direction, by_engine in best.items()
    }


def least_seconds(layer: Layer, peaks: dict[str, float]) -> float:
    """Return how long the forward computation takes at least, at these peaks.

    Its operands are read and its output is written once, and a convolution's products are all computed.
    """
    itemsize = np.dtype(layer.dtype).itemsize
    elements = math.prod(layer.input) + math.prod(layer.output)
    operations = 0
    if layer.kind == "conv":
        elements += math.prod(layer.weight)
        operations = 2 * layer.multiply_accumulates * itemsize // 4  # a vector holds half as many of float64
    return 1e-9 * max(elements * itemsize / peaks["copy_gbytes"], operations / peaks["sgemm_gflops"])


def worst_error(errors: dict[str, Any], whose: str) -> float | None:
    """Return the largest error of all results: of convpool, or of PyTorch's more accurate layout."""
    if whose not in errors:
        return None
    found = errors[whose]
    layouts = found.values() if whose == "pytorch" else [found]
    return min(max(by_result.values()) for by_result in layouts)


def summary(layers: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return for each group of layers the comparisons' geometric means and worst layers."""
    groups = {
        "given": [each for each in layers if each["is_given"]],
        "without_notebook": [each for each in layers if not each["is_notebook"]],
        "all": layers,
    }
    return {name: list(_compared(members)) for name, members in groups.items()}


def _compared(layers: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    for peer, directions in COMPARISONS:
        found = [
            Ratio(each["ratios"][direction][peer], each["name"], direction)
            for each in layers
            for direction in directions
            if peer in each["ratios"][direction]
        ]
        if found:
            worst = min(found)
            yield {
                "peer": peer,
                "directions": list(directions),
                "geometric_mean": statistics.geometric_mean(ratio.value for ratio in found),
                "ratios": len(found),
                "faster": sum(ratio.value > 1 for ratio in found),
                "worst": worst._asdict(),
            }
