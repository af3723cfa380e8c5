"""Compare the speed of the core of this checkout with that of another one, layer by layer.

Usage: python benchmarks/compare.py OTHER_CHECKOUT [ROUNDS] [--algorithm fastest] [--only SUBSTRING]...

Each checkout runs in a process of its own, and both are asked in turn; only the ratios carry over to other machines.
"""

# ruff: noqa: E402
from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # not the folder of this script: it is part of a package

from benchmarks.figures import CHOICES
from benchmarks.processes import DIRECTIONS, ROOT, time_in_turn, workers_at_once
from benchmarks.suite import Layer, layers_named
from cnn_core.runtime.threads import get_threads

SECONDS = 0.1


def medians(layer: Layer, checkouts: dict[str, tuple[str, Path]], rounds: int, algorithm: str) -> list[list[float]]:
    """Return the milliseconds of each checkout, by direction."""
    # an older checkout may have no such parameter, and pooling has none: the default is not named
    options = {"algorithm": algorithm} if algorithm != "auto" and layer.kind == "conv" else {}
    # new processes for each layer: what an earlier one leaves in the allocator changes the time of a later one
    with workers_at_once(checkouts, get_threads()) as workers:
        for worker in workers.values():
            worker.ask(build=layer.name, options=options)
        times = time_in_turn(workers, rounds, SECONDS)
    return [
        [1000 * statistics.median(taken) for label in checkouts for taken in times[direction][label].values()]
        for direction in DIRECTIONS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, metavar="OTHER_CHECKOUT")
    parser.add_argument("rounds", type=int, nargs="?", default=5, help="turns of each checkout (%(default)s)")
    parser.add_argument(
        "--algorithm", choices=CHOICES, default="auto", help="of convolutions; auto: what each does by default"
    )
    parser.add_argument("--only", action="append", metavar="SUBSTRING", help="only layers whose names hold it")
    settings = parser.parse_args()
    if not (settings.other / "cnn_core" / "__init__.py").is_file():
        parser.error(f"{settings.other} is not a checkout: it has no cnn_core")
    layers = layers_named(settings.only)
    if not layers:
        parser.error("no layer has such a name")
    checkouts = {"other": ("convpool", settings.other.resolve()), "this": ("convpool", ROOT)}
    print(f"{'layer':38}{'forward, ms':>24}{'ratio':>8}{'backward, ms':>24}{'ratio':>8}")
    ratios = []
    for layer in layers:
        row = f"{layer.name:38}"
        for theirs, ours in medians(layer, checkouts, settings.rounds, settings.algorithm):
            ratios.append(theirs / ours)
            row += f"{theirs:>11.3f} to {ours:>9.3f}{theirs / ours:>8.2f}"
        print(row, flush=True)
    mean = statistics.geometric_mean(ratios)
    print(f"geometric mean of the ratios: {mean:.2f} (above 1: this checkout is faster)")


if __name__ == "__main__":
    main()
