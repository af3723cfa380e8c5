"""The benchmark's figures as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.figures import CHOICES, GROUPS, NAMES, PARTS, worst_error
from benchmarks.processes import DIRECTIONS

__all__ = ["NONE", "markdown", "milliseconds", "table"]

NONE = "—"
MIB = 2**20

HOW_TO_READ = """\
How to read it: times are medians over all calls. Ratios are a peer's time divided by convpool's: above 1, convpool is
faster. Each engine runs in its own process, started anew for each layer, and only one is timed at a time. PyTorch is
represented by the faster of its memory layouts (NCHW, NHWC). ONNX Runtime has no backward here, and no kernel for some
types. Backward computes all gradients: of input, weight and bias.

convpool is measured with `algorithm=auto`, the default, which is exact for integers, and with `algorithm=fastest`,
which trades accuracy for speed. The two run in processes of their own and are never mixed: two numbers with a slash are
those of auto / fastest. One number is that of both: pooling has no such parameter, and for many convolutions fastest
computes just what auto does, which is then timed once.

The same work: convpool's backward begins from the operands and the gradient of the output; forward saves nothing for
it. So does JAX's, which is compiled from these (`jax.vjp` within `jax.jit`; the compiled program of max pooling finds
the maxima itself). PyTorch's backward of a convolution needs nothing else either. Its backward of pooling can only be
called after a forward, which for max pooling saves where the maxima are; so it is timed together with that forward.
Backward alone, after a forward that is not timed, has columns of its own, and counts in no mean."""

HOW_TO_READ_SUMMARY = """\
Mean: the geometric mean of the ratios. Faster: for how many of them convpool is. Worst: the smallest ratio, and its
layer."""

HOW_TO_READ_SHARES = """\
Share of the peak: the minimum time that the layer would take at the sgemm and copy peaks above, divided by convpool's
time. Algorithms with fewer products, and caches, make more than 100% possible."""

HOW_TO_READ_ERRORS = """\
Errors: the largest over output and gradients, each being the largest difference from the same result in float64,
relative to the largest value of that result. The reference is convpool in float64 (auto), which PyTorch in float64
confirms to {reference:.0e}; PyTorch is represented by the more accurate of its layouts."""

HOW_TO_READ_MEMORY = """\
Workspace: peak memory in addition to operands and results. First call: the very first forward of a new process, divided
by the median."""


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
        *_targets(results["targets"]),
        "## Summary",
        HOW_TO_READ_SUMMARY,
        _summary(results["summary"]),
        "## Forward",
        HOW_TO_READ_SHARES,
        table(
            ["layer", "convpool, ms", *_heads(peers), "share of the peak"],
            ([*_time_cells(layer, "forward", peers), _share(layer)] for layer in layers),
        ),
        "## Backward",
        table(*_backward(layers, peers)),
        "## Accuracy",
        _errors_text(layers),
        table(("layer", "error, convpool", "error, PyTorch"), map(_error_cells, layers)),
        "## Memory, first call",
        HOW_TO_READ_MEMORY,
        table(
            ("layer", "workspace forward, MiB", "workspace backward, MiB", "first call / median"),
            map(_memory_cells, layers),
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


def _targets(judged: list[dict[str, Any]]) -> list[str]:
    if not judged:
        return []
    heads = ["given layers"]
    for choice in CHOICES:
        heads += [choice, "target", "reached"]
    rows = (
        [
            f"{_against(each)}: {'worst layer' if each['figure'] == 'worst' else 'geometric mean'}",
            *(cell for choice in CHOICES for cell in _target_cells(each[choice])),
        ]
        for each in judged
    )
    return ["## Targets", table(heads, rows)]


def _target_cells(judged: dict[str, Any]) -> list[str]:
    where = f" ({judged['layer']}, {judged['direction']})" if "layer" in judged else ""
    return [f"**{judged['value']:.3f}**{where}", f"{judged['target']:.2f}", "yes" if judged["reached"] else "no"]


def _against(compared: dict[str, Any]) -> str:
    part = "forward" if (compared["peer"], compared["part"]) == ("onnx_runtime", "all") else compared["part"]
    return f"{NAMES[compared['peer']]}, {part}"


def _summary(groups: dict[str, list[dict[str, Any]]]) -> str:
    heads = ["against"]
    for choice in CHOICES:
        heads += [f"{choice}: mean", f"{choice}: faster", f"{choice}: worst"]
    parts = []
    for group, compared in groups.items():
        rows = (
            [_against(each), *(cell for choice in CHOICES for cell in _summary_cells(each[choice], each["part"]))]
            for each in compared
        )
        if compared:
            parts += [f"{GROUPS[group][0].capitalize()}:", table(heads, rows)]
    return "\n\n".join(parts)


def _summary_cells(found: dict[str, Any], part: str) -> list[str]:
    worst = found["worst"]
    where = worst["layer"] if len(PARTS[part][1]) == 1 else f"{worst['layer']}, {worst['direction']}"
    return [
        f"**{found['geometric_mean']:.2f}**",
        f"{found['faster']} of {found['ratios']}",
        f"{worst['value']:.2f} ({where})",
    ]


def _heads(peers: Iterable[str]) -> list[str]:
    return [head for peer in peers for head in (f"{NAMES[peer]}, ms", "ratio")]


def _time_cells(layer: dict[str, Any], direction: str, peers: Iterable[str]) -> list[str]:
    cells = [layer["name"], _of_choices(layer, layer["best"][direction], milliseconds)]
    for peer in peers:
        cells += _peer_cells(layer, direction, peer)
    return cells


def _peer_cells(layer: dict[str, Any], measure: str, peer: str) -> list[str]:
    best, ratios = layer["best"][measure], layer["ratios"][measure]
    if peer not in best:
        return [NONE, NONE]
    by_choice = {choice: ratios[choice][peer] for choice in CHOICES}
    return [milliseconds(best[peer]), _of_choices(layer, by_choice, "{:.2f}".format)]


def _backward(layers: list[dict[str, Any]], peers: Iterable[str]) -> tuple[list[str], Iterable[list[str]]]:
    """Return the heads and the rows of the table; PyTorch's backward alone comes last."""
    peers = [peer for peer in peers if peer != "onnx_runtime"]
    heads = ["layer", "convpool, ms", *_heads(peers)]
    if "pytorch" not in peers:
        return heads, (_time_cells(layer, "backward", peers) for layer in layers)
    rows = (
        [
            *_time_cells(layer, "backward", peers),
            *_peer_cells(layer, "backward_alone" if "backward_alone" in layer["best"] else "backward", "pytorch"),
        ]
        for layer in layers
    )
    return [*heads, "PyTorch, backward alone, ms", "ratio"], rows


def _share(layer: dict[str, Any]) -> str:
    return _of_choices(layer, layer["share_of_peak"], "{:.0%}".format)


def _of_choices(layer: dict[str, Any], figures: dict[str, Any], shown: Callable[[Any], str]) -> str:
    """Return the figures of auto / fastest, or one where they are those of the same computation."""
    return " / ".join(shown(figures[choice]) for choice in layer["choices"])


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.3g}" if seconds < 1 else f"{1000 * seconds:.0f}"


def _error_cells(layer: dict[str, Any]) -> list[str]:
    errors = layer["errors"]
    found = {choice: worst_error(errors, choice) for choice in CHOICES}
    return [
        layer["name"],
        _of_choices(layer, found, _error) if errors else NONE,
        _error(worst_error(errors, "pytorch")),
    ]


def _memory_cells(layer: dict[str, Any]) -> list[str]:
    workspace, first, median = layer["workspace_bytes"], layer["first_call_seconds"], layer["best"]["forward"]
    return [
        layer["name"],
        *(
            _of_choices(layer, {choice: workspace[choice][direction] / MIB for choice in CHOICES}, "{:.1f}".format)
            for direction in DIRECTIONS
        ),
        _of_choices(layer, {choice: first[choice] / median[choice] for choice in CHOICES}, "{:.1f}".format),
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
            milliseconds(row["auto"]),
            f"{row['ratio']:.1f}",
        )
        for row in rows
    )
    return [
        "## The notebook's loops",
        "With the notebook's own sizes and its float64; the loops are its functions, as transcribed in the tests.",
        table(("layer", "loops, ms", "convpool, ms", "ratio"), cells),
    ]
