"""The worst of what is measured of the large layers: the part of those programs that is the same."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

from cnn_core import set_threads

from .large_layers import drawn_layers, layers

__all__ = ["Measured", "report"]


class Measured(NamedTuple):
    """What was measured of a computation: what counts, how it is printed, and where it was."""

    seconds: float
    shown: str
    place: str


def report(
    description: str,
    measure: Callable[[Callable[[], Any], float], Measured],
    *,
    drawn: int,
    seconds: float,
    above: float,
) -> int:
    """Measure the chosen layers on one thread, print those that take too long and the worst; return the exit status.

    Parameters
    ----------
    description : str
        Of the program.
    measure : callable
        Measures a computation, which it stops after so many seconds.
    drawn, seconds, above : int, float, float
        Defaults of the arguments.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--only", default="", help="measure the layers with this text in their names")
    parser.add_argument("--every", type=int, default=1, help="measure every so many layers")
    parser.add_argument("--drawn", type=int, default=drawn, help="number of random layers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=seconds, help="stop each computation after this time")
    parser.add_argument("--worst", type=int, default=30, help="number of layers to print")
    parser.add_argument("--above", type=float, default=above, help="exit with status 1 if one is above so many seconds")
    options = parser.parse_args()
    set_threads(1)
    results: list[tuple[float, str]] = []
    chosen = itertools.chain(layers(), drawn_layers(options.drawn, options.seed))
    for layer in itertools.islice((each for each in chosen if options.only in str(each)), 0, None, options.every):
        for direction, call in layer.calls():
            measured = measure(call, options.seconds)
            line = f"{measured.shown}, {direction:15s} {layer}   {measured.place}"
            results.append((measured.seconds, line))
            if measured.seconds > options.above:
                print(line, flush=True)
    print(f"\nthe worst of {len(results)}")
    for _, line in sorted(results, reverse=True)[: options.worst]:
        print(line)
    return 1 if any(found > options.above for found, _ in results) else 0
