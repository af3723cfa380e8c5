"""A picture of the ratios to PyTorch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

__all__ = ["draw", "logarithmic"]

COLORS = {"forward": "#0072b2", "backward": "#e69f00"}  # told apart by colour-blind people, and in grey
THICKNESS = 0.4
TICKS = tuple(factor * 10.0**power for power in range(-3, 4) for factor in (1, 2, 5))


def draw(layers: list[dict[str, Any]], subtitle: str, path: Path) -> None:
    """Write a picture of each layer's ratios to PyTorch, forward and backward, as bars from 1."""
    mpl.use("Agg")
    figure = Figure(figsize=(10, 1.8 + 0.38 * len(layers)), layout="constrained")
    axes = figure.subplots()
    for number, (direction, color) in enumerate(COLORS.items()):
        places = [place + (number - 0.5) * THICKNESS for place in range(len(layers))]
        ratios = [layer["ratios"][direction]["pytorch"] for layer in layers]
        widths = [ratio - 1 for ratio in ratios]
        axes.barh(places, widths, THICKNESS, left=1, color=color, label=direction)
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
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(layers)), [layer["name"] for layer in layers], fontsize=9)
    axes.set_ylim(len(layers) - 0.4, -0.6)  # the first layer on top
    logarithmic(axes, [ratio for layer in layers for ratio in (layer["ratios"][key]["pytorch"] for key in COLORS)])
    axes.set_title(f"PyTorch's time / convpool's, layer by layer\n{subtitle}", fontsize=10)
    axes.set_xlabel("ratio, logarithmic: right of 1 convpool is faster, left of 1 PyTorch is")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=130)


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
