"""What the benchmark makes of its measurements: ratios of times, their means, and whether these reach the targets."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.processes import DIRECTIONS, Times
from benchmarks.suite import Layer

__all__ = [
    "CHOICES",
    "GROUPS",
    "MEASURES",
    "NAMES",
    "PARTS",
    "TARGETS",
    "Target",
    "best_medians",
    "for_each_choice",
    "least_seconds",
    "medians",
    "ratios",
    "summary",
    "targets",
    "worst_error",
]

NAMES = {"convpool": "convpool", "pytorch": "PyTorch", "onnx_runtime": "ONNX Runtime", "jax": "JAX"}

CHOICES = ("auto", "fastest")
"""The values of convpool's parameter ``algorithm`` that are timed: the default, and what trades accuracy for speed."""

MEASURES = (*DIRECTIONS, "backward_alone")
"""What is timed: see ``benchmarks.engines.computation``."""

PARTS = {
    "all": (("conv", "pool"), DIRECTIONS),
    "conv forward": (("conv",), ("forward",)),
    "conv backward": (("conv",), ("backward",)),
    "pool forward": (("pool",), ("forward",)),
    "pool backward": (("pool",), ("backward",)),
}
"""The kinds of layers and the directions that a mean is over."""

GROUPS = {
    "given": ("the given layers (the first of each table), for which the targets were set", tuple(PARTS)),
    "without_notebook": ("all layers but the notebook's two tiny ones", tuple(PARTS)),
    "notebook": ("the notebook's two tiny layers", ("all",)),
}
"""Which layers are summed up together, and over which parts."""


class Target(NamedTuple):
    """The least that a figure over the given layers is to be.

    ``figure`` is "geometric_mean" or "worst"; ``auto`` and ``fastest`` are the targets of these.
    """

    peer: str
    part: str
    figure: str
    auto: float
    fastest: float


TARGETS = (
    Target("pytorch", "all", "geometric_mean", 0.75, 0.95),
    Target("onnx_runtime", "all", "geometric_mean", 0.75, 0.95),
    Target("jax", "all", "geometric_mean", 2.5, 4.0),
    Target("pytorch", "pool forward", "geometric_mean", 0.7, 0.7),
    Target("pytorch", "pool backward", "geometric_mean", 0.8, 0.8),
    *(Target(peer, "all", "worst", 0.33, 0.33) for peer in NAMES if peer != "convpool"),
)

Spreads = dict[str, dict[str, dict[str, dict[str, float]]]]
ByLabel = dict[str, dict[str, float]]


class Ratio(NamedTuple):
    """A peer's time / convpool's, of a layer in a direction."""

    value: float
    layer: str
    direction: str


def medians(times: Times) -> Spreads:
    """Return the median, the quartiles and the number of the calls, by measure, label and layout."""
    return {
        measure: {
            label: {layout: _spread(taken) for layout, taken in by_layout.items()}
            for label, by_layout in by_label.items()
            if by_layout
        }
        for measure, by_label in times.items()
    }


def _spread(taken: list[float]) -> dict[str, float]:
    lower, median, upper = np.quantile(taken, (0.25, 0.5, 0.75)).tolist()
    return {"median": median, "lower_quartile": lower, "upper_quartile": upper, "calls": len(taken)}


def best_medians(seconds: Spreads) -> ByLabel:
    """Return the seconds by measure and label: of the layout that is faster."""
    best = {
        measure: {
            label: min(spread["median"] for spread in by_layout.values()) for label, by_layout in by_label.items()
        }
        for measure, by_label in seconds.items()
    }
    return {measure: for_each_choice(found) | found if "auto" in found else found for measure, found in best.items()}


def for_each_choice(figures: dict[str, Any]) -> dict[str, Any]:
    """Return convpool's figures for each choice: those of "auto" for "fastest" too, where it computes the same."""
    return {choice: figures.get(choice, figures["auto"]) for choice in CHOICES}


def ratios(best: ByLabel) -> dict[str, dict[str, dict[str, float]]]:
    """Return each peer's time / convpool's, by measure, choice and peer.

    A peer's backward alone is divided by convpool's backward, for which forward saves nothing.
    """
    return {
        measure: {
            choice: {
                peer: seconds / best[measure.removesuffix("_alone")][choice]
                for peer, seconds in by_label.items()
                if peer in NAMES
            }
            for choice in CHOICES
        }
        for measure, by_label in best.items()
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
    """Return the largest error of all results: of one of convpool's choices, or of PyTorch's more accurate layout."""
    if whose not in errors:
        return None
    found = errors[whose]
    layouts = found.values() if whose == "pytorch" else [found]
    return min(max(by_result.values()) for by_result in layouts)


def summary(layers: list[dict[str, Any]], peers: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return for each group of layers the geometric means and the worst of their ratios, by peer and part.

    Each peer does the same work as convpool: its backward begins from the operands.
    """
    groups = {
        "given": [each for each in layers if each["is_given"]],
        "without_notebook": [each for each in layers if not each["is_notebook"]],
        "notebook": [each for each in layers if each["is_notebook"]],
    }
    return {name: list(_compared(groups[name], peers, parts)) for name, (_, parts) in GROUPS.items()}


def _compared(layers: list[dict[str, Any]], peers: Sequence[str], parts: Iterable[str]) -> Iterator[dict[str, Any]]:
    for peer in peers:
        for part in parts:
            kinds, directions = PARTS[part]
            members = [each for each in layers if ("conv" if each["kind"] == "conv" else "pool") in kinds]
            found = {choice: list(_ratios_of(members, directions, choice, peer)) for choice in CHOICES}
            if found["auto"]:
                yield {"peer": peer, "part": part, **{choice: _summed_up(found[choice]) for choice in CHOICES}}


def _ratios_of(layers: list[dict[str, Any]], directions: Iterable[str], choice: str, peer: str) -> Iterator[Ratio]:
    for each in layers:
        for direction in directions:
            if peer in each["ratios"][direction][choice]:
                yield Ratio(each["ratios"][direction][choice][peer], each["name"], direction)


def _summed_up(found: list[Ratio]) -> dict[str, Any]:
    return {
        "geometric_mean": statistics.geometric_mean(ratio.value for ratio in found),
        "ratios": len(found),
        "faster": sum(ratio.value > 1 for ratio in found),
        "worst": min(found)._asdict(),
    }


def targets(compared: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the targets whose figures were measured, with these figures and whether they reach them.

    Parameters
    ----------
    compared : list of dict
        The summary of the given layers.
    """
    by_place = {(each["peer"], each["part"]): each for each in compared}
    return [
        {
            "peer": target.peer,
            "part": target.part,
            "figure": target.figure,
            **{
                choice: _judged(by_place[target.peer, target.part][choice], target.figure, getattr(target, choice))
                for choice in CHOICES
            },
        }
        for target in TARGETS
        if (target.peer, target.part) in by_place
    ]


def _judged(found: dict[str, Any], figure: str, least: float) -> dict[str, Any]:
    measured = found["worst"] if figure == "worst" else {"value": found[figure]}
    return {**measured, "target": least, "reached": measured["value"] >= least}
