"""Compare the speed of the core of this checkout with that of another one, layer by layer.

Usage: python benchmarks/compare.py OTHER_CHECKOUT [ROUNDS]

Each checkout runs in a process of its own, and both are asked in turn; only the ratios carry over to other machines.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import cnn_core

LAYERS: dict[str, tuple[str, dict[str, object], tuple[int, ...], tuple[int, ...]]] = {
    "conv 2x9x7x3 to 4, 5x5/2": ("Conv", {"padding": 1, "stride": 2}, (2, 9, 7, 3), (5, 5, 3, 4)),
    "max 2x9x7x3, 2x2": ("MaxPool", {"kernel_size": 2}, (2, 9, 7, 3), ()),
    "conv 8x56x56x64 to 64, 3x3": ("Conv", {"padding": 1}, (8, 56, 56, 64), (3, 3, 64, 64)),
    "conv 8x56x56x64 to 256, 1x1": ("Conv", {}, (8, 56, 56, 64), (1, 1, 64, 256)),
    "conv 8x7x7x512 to 512, 3x3": ("Conv", {"padding": 1}, (8, 7, 7, 512), (3, 3, 512, 512)),
    "conv 8x7x7x1024 to 1024, 3x3": ("Conv", {"padding": 1}, (8, 7, 7, 1024), (3, 3, 1024, 1024)),
    "conv 64x28x28x1 to 6, 5x5": ("Conv", {}, (64, 28, 28, 1), (5, 5, 1, 6)),
    "conv 1x100000x1, 1001": ("Conv", {}, (1, 100_000, 1), (1001, 1, 1)),
    "depthwise 8x56x56x128, 3x3": ("Conv", {"padding": 1, "groups": 128}, (8, 56, 56, 128), (3, 3, 1, 128)),
    "depthwise 1x40x40x64, 15x15": ("Conv", {"padding": 7, "groups": 64}, (1, 40, 40, 64), (15, 15, 1, 64)),
    "max 8x112x112x64, 3x3/2": ("MaxPool", {"kernel_size": 3, "stride": 2, "padding": 1}, (8, 112, 112, 64), ()),
    "max 64x28x28x6, 2x2": ("MaxPool", {"kernel_size": 2}, (64, 28, 28, 6), ()),
    "avg 8x56x56x128, 2x2": ("AvgPool", {"kernel_size": 2}, (8, 56, 56, 128), ()),
}


def serve_measurements() -> None:
    """Time one layer for every line that comes in: its name, answered by the seconds of forward and of backward."""
    random = np.random.default_rng(0)
    for line in sys.stdin:
        kind, parameters, *shapes = LAYERS[line.strip()]
        op = getattr(cnn_core, kind)(**parameters)
        operands = [random.standard_normal(shape, dtype=np.float32) for shape in shapes if shape]
        gradient = np.ones(op.forward(*operands).shape, dtype=np.float32)
        seconds = []
        for function, arguments in ((op.forward, operands), (op.backward, [gradient, *operands])):
            start = time.perf_counter()
            function(*arguments)
            seconds.append(time.perf_counter() - start)
        sys.stdout.write(json.dumps(seconds) + "\n")
        sys.stdout.flush()


def measured(checkouts: list[Path], name: str, rounds: int) -> list[list[list[float]]]:
    """Return for each checkout and round the seconds of forward and of backward."""
    # new processes for each layer: what an earlier one leaves in the allocator changes the time of a later one
    processes = [
        subprocess.Popen(
            [sys.executable, Path(__file__).resolve(), "--serve"],
            env={"PYTHONPATH": str(checkout)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for checkout in checkouts
    ]
    times: list[list[list[float]]] = [[] for _ in checkouts]
    for number in range(rounds + 2):
        for process, seconds in zip(processes, times, strict=True):
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(name + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            if number > 1:  # the first two warm up
                seconds.append(answer)
    for process in processes:
        process.communicate(timeout=60)
    return times


def main(other: str, rounds: int) -> None:
    checkouts = [Path(other).resolve(), Path(__file__).resolve().parents[1]]
    print(f"{'layer':32}{'forward, ms':>24}{'ratio':>8}{'backward, ms':>24}{'ratio':>8}")
    ratios = []
    for name in LAYERS:
        times = measured(checkouts, name, rounds)
        row = f"{name:32}"
        for direction in (0, 1):
            theirs, ours = (1000 * statistics.median(pair[direction] for pair in seconds) for seconds in times)
            ratios.append(theirs / ours)
            row += f"{theirs:>11.3f} to {ours:>9.3f}{theirs / ours:>8.2f}"
        print(row, flush=True)
    mean = statistics.geometric_mean(ratios)
    print(f"geometric mean of the ratios: {mean:.2f} (above 1: this checkout is faster)")


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve_measurements()
    else:
        main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 7)
