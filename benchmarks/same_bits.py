"""Compare the results of two checkouts bit by bit, on random layers computed in direct mode.

    python benchmarks/same_bits.py OTHER_CHECKOUT [--layers 2000] [--seed 0]

Each checkout computes the same layers in a process of its own, through the public interface alone; the digests of all
results, forward and backward, are compared. Exit status 1 if any differ.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]


def draw_parameters(random: np.random.Generator, rank: int, kernel: list[int]) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "stride": [int(random.integers(1, 4)) for _ in range(rank)],
        "dilation": [int(random.choice([1, 1, 2])) for _ in range(rank)],
        "padding": [[int(random.integers(0, size)), int(random.integers(0, size))] for size in kernel],
        "data_format": str(random.choice(["channels_last", "channels_first"])),
    }
    return parameters


def draw_layers(count: int, seed: int) -> Iterator[tuple[str, dict[str, Any], dict[str, tuple[int, ...]], str]]:
    """Yield the name of an op, its parameters, the shapes of its operands and their type."""
    random = np.random.default_rng(seed)
    for index in range(count):
        name = ("Conv", "ConvTranspose", "MaxPool", "AvgPool", "LpPool", "Unfold", "Conv")[index % 7]
        rank = int(random.integers(1, 4))
        most = {1: 400, 2: 40, 3: 10}[rank] if index % 10 else {1: 20_000, 2: 120, 3: 24}[rank]
        kernel = [int(random.integers(1, 6)) for _ in range(rank)]
        parameters = draw_parameters(random, rank, kernel)
        extents = [(size - 1) * step + 1 for size, step in zip(kernel, parameters["dilation"], strict=True)]
        sizes = [extent + int(random.integers(0, most)) for extent in extents]
        batch = int(random.integers(1, 4))
        groups = int(random.choice([1, 1, 1, 2, 3, 8]))
        channels = groups * int(random.choice([1, 1, 2, 3, 8, 16]))
        features = groups * int(random.choice([1, 2, 5, 16, 24]))
        last = parameters["data_format"] == "channels_last"

        def laid_out(size: list[int], axis: int, batch: int = batch, last: bool = last) -> tuple[int, ...]:
            return (batch, *size, axis) if last else (batch, axis, *size)

        shapes = {"input": laid_out(sizes, channels)}
        if name in ("Conv", "ConvTranspose"):
            parameters["groups"] = groups
            weight = (*kernel, channels // groups, features) if last else (features, channels // groups, *kernel)
            if name == "ConvTranspose":
                shapes["input"] = laid_out([1 + size // 3 for size in sizes], features)
                parameters["padding"] = 0
            shapes["weight"] = weight
            if random.integers(2):
                shapes["bias"] = (channels if name == "ConvTranspose" else features,)
        else:
            parameters["kernel_size"] = kernel
        if name == "MaxPool":
            parameters |= {"ties": str(random.choice(["first", "all", "split"])), "return_indices": bool(index % 2)}
        if name in ("MaxPool", "AvgPool", "LpPool"):
            parameters["ceil_mode"] = bool(random.integers(2))
        yield name, parameters, shapes, str(random.choice(["float16", "float32", "float64"]))


def digest(results: Any) -> str:
    arrays = results if isinstance(results, tuple) else (results,)
    state = hashlib.sha256()
    for array in arrays:
        if array is not None:
            state.update(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return state.hexdigest()[:16]


def compute(count: int, seed: int) -> None:
    """Print a line for each layer: what it is, and the digests of its results."""
    import cnn_core  # noqa: PLC0415  (of the checkout in which the process was started)

    for index, (name, parameters, shapes, dtype) in enumerate(draw_layers(count, seed)):
        op = getattr(cnn_core, name)(**parameters)
        random = np.random.default_rng([seed, index])
        # few different values: maxima tie, and sums of some layers are exact
        operands = [random.integers(-9, 9, shape).astype(dtype) / 8 for shape in shapes.values()]
        if index % 3:
            operands = [random.standard_normal(shape).astype(dtype) for shape in shapes.values()]
        output = op.forward(*operands)
        gradient = random.standard_normal(op.output_shape(*shapes.values())).astype(dtype)
        backward = op.backward(gradient, *operands)
        print(json.dumps([index, name, parameters, dtype, digest(output), digest(backward)]), flush=True)


def results_of(checkout: Path, arguments: list[str]) -> list[str]:
    command = [sys.executable, str(Path(__file__).resolve()), "--compute", *arguments]
    done = subprocess.run(
        command, cwd=checkout, env={"PYTHONPATH": str(checkout), "PATH": ""}, check=True, capture_output=True, text=True
    )
    return done.stdout.splitlines()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", nargs="?", type=Path)
    parser.add_argument("--layers", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compute", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.compute:
        sys.path[0] = str(Path.cwd())
        compute(options.layers, options.seed)
        return 0
    arguments = ["--layers", str(options.layers), "--seed", str(options.seed)]
    ours, theirs = (results_of(checkout.resolve(), arguments) for checkout in (ROOT, options.other))
    different = [(one, other) for one, other in zip(ours, theirs, strict=True) if one != other]
    for one, other in different[:20]:
        print(f"here  {one}\nthere {other}")
    print(f"{len(ours)} layers, {len(different)} with other bits")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
