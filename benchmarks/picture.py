"""A picture of the ratios to PyTorch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from benchmarks.processes import DIRECTIONS

__all__ = ["draw", "logarithmic"]

COLORS = {"auto": "#0072b2", "fastest": "#e69f00"}  # told apart by colour-blind people, and in grey
LABELS = {"auto": "auto", "fastest": "fastest, where it computes something else"}
TITLES = {"backward": " (of pooling: PyTorch's forward and backward)"}
THICKNESS = 0.4
TICKS = tuple(factor * 10.0**power for power in range(-3, 4) for factor in (1, 2, 5))


def draw(layers: list[dict[str, Any]], subtitle: str, path: Path) -> None:
    """Write a picture of each layer's ratios to PyTorch, forward beside backward, as bars from 1.

    A layer for which fastest computes the same as auto has one bar.
    """
    mpl.use("Agg")
    figure = Figure(figsize=(12, 2.0 + 0.38 * len(layers)), layout="constrained")
    by_direction = figure.subplots(1, len(DIRECTIONS), sharey=True)
    for axes, direction in zip(by_direction, DIRECTIONS, strict=True):
        _bars(axes, layers, direction)
        axes.set_title(direction + TITLES.get(direction, ""), fontsize=10)
        axes.set_xlabel("ratio, logarithmic: right of 1 convpool is faster, left of 1 PyTorch is", fontsize=9)
    by_direction[0].set_yticks(range(len(layers)), [layer["name"] for layer in layers], fontsize=9)
    by_direction[0].set_ylim(len(layers) - 0.4, -0.6)  # the first layer on top
    figure.suptitle(f"PyTorch's time / convpool's, layer by layer\n{subtitle}", fontsize=10)
    handles = {
        label: bar for axes in by_direction for bar, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.savefig(path, dpi=130)


def _bars(axes: Axes, layers: list[dict[str, Any]], direction: str) -> None:
    shown = []
    for number, (choice, color) in enumerate(COLORS.items()):
        members = [(place, each) for place, each in enumerate(layers) if choice in each["choices"]]
        if not members:
            continue
        ratios = [each["ratios"][direction][choice]["pytorch"] for _, each in members]
        places = [place + (number - 0.5) * THICKNESS * (len(each["choices"]) - 1) for place, each in members]
        axes.barh(places, [ratio - 1 for ratio in ratios], THICKNESS, left=1, color=color, label=LABELS[choice])
        for place, ratio in zip(places, ratios, strict=True):
            axes.annotate(
                f"{ratio:.2f}",
                (ratio, place),
                xytext=(3 if ratio >= 1 else -3, 0),
                textcoords="offset points",
                ha="left" if ratio >= 1 else "right",
                va="center_baseline",
                fontsize=7,
            )
        shown += ratios
    axes.axvline(1, color="black", linewidth=1)
    logarithmic(axes, shown)


def logarithmic(axes: Axes, ratios: list[float]) -> None:
    """Set a logarithmic axis, with room for the numbers at the ends of the bars."""
    axes.set_xscale("log")
    least, most = min(0.8, *ratios), max(1.25, *ratios)
    room = 1 + 0.1 * math.log(most / least)
    axes.set_xlim(least / room, most * room)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in TICKS if least / room <= tick <= most * room]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
