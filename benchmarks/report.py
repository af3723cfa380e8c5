"""The benchmark's figures as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.figures import GROUPS, NAMES, worst_error

__all__ = ["NONE", "markdown", "milliseconds", "table"]

NONE = "—"
MIB = 2**20

HOW_TO_READ = """\
How to read it: times are medians over all calls. Ratios are a peer's time divided by convpool's: above 1, convpool is
faster. Each engine runs in its own process, started anew for each layer, and only one is timed at a time. PyTorch is
represented by the faster of its memory layouts (NCHW, NHWC). ONNX Runtime has no backward here, and no kernel for some
types. Backward computes all gradients: of input, weight and bias."""

HOW_TO_READ_SHARES = """\
Share of the peak: the minimum time that the layer would take at the sgemm and copy peaks above, divided by convpool's
time. Algorithms with fewer products, and caches, make more than 100% possible."""

HOW_TO_READ_ERRORS = """\
Errors: the largest over output and gradients, each being the largest difference from the same result in float64,
relative to the largest value of that result. The reference is convpool in float64 (direct), which PyTorch in float64
confirms to {reference:.0e}; PyTorch is represented by the more accurate of its layouts. Workspace: peak memory in
addition to operands and results. First call: the very first forward of a new process, divided by the median."""


def markdown(results: dict[str, Any]) -> str:
    """Return the whole report."""
    peers = [name for name in results["engines"] if name != "convpool"]
    layers = results["layers"]
    parts = [
        "# Benchmark",
        "`make bench` writes this file, results.json (all figures) and results.png.",
        _bullets(results),
        HOW_TO_READ,
        "![Ratios to PyTorch](results.png)" if "pytorch" in peers else "",
        "## Summary",
        _summary(results["summary"]),
        "## Forward",
        HOW_TO_READ_SHARES,
        table(
            [*_time_heads("forward", peers), "share of the peak"],
            ([*_time_cells(layer, "forward", peers), f"{layer['share_of_peak']:.0%}"] for layer in layers),
        ),
        "## Backward",
        table(_time_heads("backward", peers), (_time_cells(layer, "backward", peers) for layer in layers)),
        "## Accuracy, memory, first call",
        _errors_text(layers),
        table(
            [
                "layer",
                "error, convpool",
                'error, convpool "direct"',
                "error, PyTorch",
                "workspace forward, MiB",
                "workspace backward, MiB",
                "first call / median",
            ],
            map(_other_cells, layers),
        ),
        *_notebook(results["notebook"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---", *("---:" for _ in heads[1:])], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _bullets(results: dict[str, Any]) -> str:
    one, all_threads = results["peaks"]["one"], results["peaks"]["all"]
    lines = (
        f"{results['date']}; {results['cpu']}; threads of each engine: {results['threads']}",
        f"{results['system']}; {'; '.join(results['versions'].values())}",
        f"{results['rounds']} rounds of {results['seconds']} s per engine, layout and direction",
        (
            f"sgemm (np.matmul, 2048^3): {one['sgemm_gflops']:.0f} GFLOP/s with one thread, "
            f"{all_threads['sgemm_gflops']:.0f} with all"
        ),
        (
            f"copying (read and written): {one['copy_gbytes']:.1f} GB/s with one thread, "
            f"{all_threads['copy_gbytes']:.1f} with all"
        ),
    )
    others = [each["others_processors"] for each in results["layers"] if each["others_processors"] is not None]
    if others:
        lines += (f"cores busy with other programs meanwhile, averaged over the worst layer: {max(others):.2f}",)
    return "\n".join(f"- {line}" for line in lines)


def _summary(groups: dict[str, list[dict[str, Any]]]) -> str:
    parts = []
    for group, compared in groups.items():
        if not compared:
            continue
        rows = (
            (
                f"{NAMES[each['peer']]}, {' and '.join(each['directions'])}",
                f"**{each['geometric_mean']:.2f}**",
                f"{each['faster']} of {each['ratios']}",
                f"{each['worst']['value']:.2f}",
                f"{each['worst']['layer']}, {each['worst']['direction']}",
            )
            for each in compared
        )
        heads = ("against", "geometric mean of ratios", "convpool faster", "worst", "worst layer")
        parts += [f"{GROUPS[group].capitalize()}:", table(heads, rows)]
    return "\n\n".join(parts)


def _time_heads(direction: str, peers: Sequence[str]) -> list[str]:
    heads = ["layer", "convpool, ms"]
    for peer in _with_times(direction, peers):
        heads += [f"{NAMES[peer]}, ms", "ratio"]
    return heads


def _with_times(direction: str, peers: Sequence[str]) -> list[str]:
    return [peer for peer in peers if direction == "forward" or peer != "onnx_runtime"]


def _time_cells(layer: dict[str, Any], direction: str, peers: Sequence[str]) -> list[str]:
    best, ratios = layer["best"][direction], layer["ratios"][direction]
    cells = [layer["name"], milliseconds(best["convpool"])]
    for peer in _with_times(direction, peers):
        cells += [milliseconds(best[peer]), f"{ratios[peer]:.2f}"] if peer in best else [NONE, NONE]
    return cells


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.3g}" if seconds < 1 else f"{1000 * seconds:.0f}"


def _other_cells(layer: dict[str, Any]) -> list[str]:
    errors = layer["errors"]
    return [
        layer["name"],
        *(_error(worst_error(errors, whose)) for whose in ("convpool", "convpool direct", "pytorch")),
        *(f"{layer['workspace_bytes'][direction] / MIB:.1f}" for direction in ("forward", "backward")),
        f"{layer['first_call_seconds'] / layer['best']['forward']['convpool']:.1f}",
    ]


def _error(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:.1e}" if value else "0"


def _errors_text(layers: list[dict[str, Any]]) -> str:
    found = [layer["errors"]["reference"] for layer in layers if "reference" in layer["errors"]]
    if not found:
        return "Errors are only measured together with PyTorch, which checks the reference."
    return HOW_TO_READ_ERRORS.format(reference=max(found))


def _notebook(rows: list[dict[str, Any]] | None) -> list[str]:
    if rows is None:
        return []
    cells = (
        (
            f"{row['name']}, {row['direction']}",
            milliseconds(row["notebook"]),
            milliseconds(row["convpool"]),
            f"{row['ratio']:.1f}",
        )
        for row in rows
    )
    return [
        "## The notebook's loops",
        "With the notebook's own sizes and its float64; the loops are its functions, as transcribed in the tests.",
        table(("layer", "loops, ms", "convpool, ms", "ratio"), cells),
    ]
