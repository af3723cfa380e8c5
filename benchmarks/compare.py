"""Compare the speed of the core of this checkout with that of another one, layer by layer.

Usage: python benchmarks/compare.py OTHER_CHECKOUT [ROUNDS]

Each checkout runs in a process of its own, and both are asked in turn; only the ratios carry over to other machines.
"""

# ruff: noqa: E402
from __future__ import annotations

import statistics
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # not the folder of this script: it is part of a package

from benchmarks.processes import DIRECTIONS, ROOT, time_in_turn, workers_at_once
from benchmarks.suite import SUITE, Layer
from cnn_core.runtime.threads import get_threads

SECONDS = 0.1


def medians(layer: Layer, checkouts: dict[str, tuple[str, Path]], rounds: int) -> list[list[float]]:
    """Return the milliseconds of each checkout, by direction."""
    # new processes for each layer: what an earlier one leaves in the allocator changes the time of a later one
    with workers_at_once(checkouts, get_threads()) as workers:
        for worker in workers.values():
            worker.ask(build=layer.name)
        times = time_in_turn(workers, rounds, SECONDS)
    return [
        [1000 * statistics.median(taken) for label in checkouts for taken in times[direction][label].values()]
        for direction in DIRECTIONS
    ]


def main(other: Path, rounds: int) -> None:
    if not (other / "cnn_core" / "__init__.py").is_file():
        sys.exit(f"{other} is not a checkout: it has no cnn_core")
    checkouts = {"other": ("convpool", other.resolve()), "this": ("convpool", ROOT)}
    print(f"{'layer':38}{'forward, ms':>24}{'ratio':>8}{'backward, ms':>24}{'ratio':>8}")
    ratios = []
    for layer in SUITE:
        row = f"{layer.name:38}"
        for theirs, ours in medians(layer, checkouts, rounds):
            ratios.append(theirs / ours)
            row += f"{theirs:>11.3f} to {ours:>9.3f}{theirs / ours:>8.2f}"
        print(row, flush=True)
    mean = statistics.geometric_mean(ratios)
    print(f"geometric mean of the ratios: {mean:.2f} (above 1: this checkout is faster)")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5)
