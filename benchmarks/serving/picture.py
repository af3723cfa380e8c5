"""A picture of the service's figures relative to the plain handler's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.picture import logarithmic
from benchmarks.serving.report import find
from benchmarks.serving.servers import TITLES

__all__ = ["draw"]

COLORS = ("#0072b2", "#e69f00", "#999999")  # told apart by colour-blind people, and in grey
SPAN = 0.8


def draw(calls: list[dict[str, Any]], subtitle: str, path: Path) -> None:
    """Write a picture of each server's and wire's p50 and throughput, divided so that more is better.

    Nothing is written if the plain handler was not timed.
    """
    calls = [call for call in calls if any(cell["server"] == "plain" and "p50" in cell for cell in call["cells"])]
    if not calls:
        return
    mpl.use("Agg")
    figure = Figure(figsize=(11, 1.2 + 3.2 * len(calls)), layout="constrained")
    grid = figure.subplots(len(calls), 2, squeeze=False)
    for row, call in zip(grid, calls, strict=True):
        _bars(row[0], call, "p50", f"{call['title']}: plain handler's p50 / p50")
        _bars(row[1], call, "throughput", "throughput / plain handler's")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(f"Right of 1: better than the plain handler\n{subtitle}", fontsize=10)
    figure.savefig(path, dpi=110)


def _bars(axes: Axes, call: dict[str, Any], what: str, title: str) -> None:
    counts = list(dict.fromkeys(cell["clients"] for cell in call["cells"]))
    rows = list(
        dict.fromkeys(
            (cell["server"], cell["wire"]) for cell in call["cells"] if cell["server"] in TITLES and "p50" in cell
        )
    )
    thickness = SPAN / len(counts)
    shown = []
    for number, (clients, color) in enumerate(zip(counts, COLORS, strict=False)):
        plain = find(call, "plain", None, clients)
        for place, (server, wire) in enumerate(rows):
            cell = find(call, server, wire, clients)
            if cell and plain:
                ratio = plain["p50"] / cell["p50"] if what == "p50" else cell[what] / plain[what]
                shown.append(ratio)
                height = place + (number - (len(counts) - 1) / 2) * thickness
                axes.barh(height, ratio - 1, thickness, left=1, color=color)
        axes.barh(0, 0, 0, left=1, color=color, label=f"{clients} client{'s' if clients > 1 else ''}")
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(rows)), [f"{TITLES[server]}, {wire}" for server, wire in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    logarithmic(axes, shown)
    axes.set_title(title, fontsize=9)
