"""The service benchmark's figures as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks.report import NONE, milliseconds, table
from benchmarks.serving.servers import TITLES
from benchmarks.serving.turns import FEWEST_FOR_P99, IN_PROCESS, RAW

__all__ = ["aims", "find", "markdown"]

MIB = 2**20

HOW_TO_READ = f"""\
How to read it: each client sends a request, waits for the response, and sends the next one, over a connection of its
own; all clients are one process, the same for every server, which sends bytes that were made before. p50 and p99 are
over all responses ({NONE}: fewer than {FEWEST_FOR_P99}), throughput is in responses per second, and MiB/s counts
requests and responses. Each server runs in a process of its own, and the others are suspended meanwhile; they take
turns, in each round in the other order. Every server's first response is compared with the expected numbers.

- **plain handler**: FastAPI behind uvicorn with httptools and uvloop, one process; it awaits the body, and calls
  np.load, torch.nn.functional.conv2d and np.save.
- **LitServe**, **BentoML**: the same work, one worker each; LitServe with its fast queue, BentoML with the npz as a
  file in a form.
- They get channels-first operands, PyTorch's own layout; convpool gets channels-last ones.
- **raw socket**: a server that reads the request's bytes and sends as many as the response has: nothing that is sent
  to another process and back can take less. The column divides a p50 by that of the raw socket for as many bytes.
- "of plain" divides by the plain handler's figure: below 1 is better for p50, above 1 for throughput."""


# ----------------------------------------------------------------------------------------------------------------- aims


def find(call: dict[str, Any], server: str, wire: str | None, clients: int) -> dict[str, Any] | None:
    """Return the figures of a cell; None if there are none. Any wire does if it is None."""
    for cell in call["cells"]:
        if (cell["server"], cell["clients"]) == (server, clients) and wire in (None, cell["wire"]) and "p50" in cell:
            return dict(cell)
    return None


def aims(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what was aimed at, and what was reached, as far as it was measured."""
    by_name = {call["name"]: call for call in calls}
    found: list[dict[str, Any]] = []
    if "small" in by_name:
        found += _small(by_name["small"])
    if "resnet" in by_name:
        found += _over_the_floor(by_name["resnet"])
    for call in calls:
        found += _ahead_of_peers(call)
    if "copy" in by_name:
        found += _copying(by_name["copy"])
    return found


def _aim(what: str, value: float, wanted: float, *, at_most: bool) -> dict[str, Any]:
    reached = value <= wanted if at_most else value >= wanted
    return {
        "what": what,
        "value": value,
        "wanted": f"at {'most' if at_most else 'least'} {wanted:g}",
        "reached": reached,
    }


def _wires(call: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(cell["wire"] for cell in call["cells"] if cell["server"] == "convpool"))


def _small(call: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for wire, most in (("safetensors", 0.4), ("v2-binary", 0.4), ("npz", 0.6)):
        one, eight = find(call, "convpool", wire, 1), find(call, "convpool", wire, 8)
        plain_one, plain_eight = find(call, "plain", None, 1), find(call, "plain", None, 8)
        where = f"{call['title']}, {wire}"
        if one and plain_one:
            yield _aim(f"{where}: p50 / plain handler's", one["p50"] / plain_one["p50"], most, at_most=True)
        if eight and eight["p99"]:
            yield _aim(f"{where}: p99 / p50, 8 clients", eight["p99"] / eight["p50"], 3, at_most=True)
        if eight and plain_eight:
            ratio = eight["throughput"] / plain_eight["throughput"]
            yield _aim(f"{where}: throughput / plain handler's, 8 clients", ratio, 2, at_most=False)


def _over_the_floor(call: dict[str, Any]) -> Iterator[dict[str, Any]]:
    computed = find(call, IN_PROCESS, None, 1)
    for wire in _wires(call):
        cell, raw = find(call, "convpool", wire, 1), find(call, RAW, wire, 1)
        if cell and raw and computed and not wire.endswith("json"):
            ratio = cell["p50"] / (computed["p50"] + raw["p50"])
            yield _aim(f"{call['title']}, {wire}: p50 / (in process + raw socket)", ratio, 1.25, at_most=True)


def _ahead_of_peers(call: dict[str, Any]) -> Iterator[dict[str, Any]]:
    clients = list(dict.fromkeys(cell["clients"] for cell in call["cells"]))
    for wire in _wires(call):
        worst: dict[str, float] = {}
        for count in clients:
            mine = find(call, "convpool", wire, count)
            for peer in TITLES:
                theirs = find(call, peer, None, count) if peer != "convpool" else None
                if mine and theirs:
                    for what, ratio in (
                        ("p50", theirs["p50"] / mine["p50"]),
                        ("throughput", mine["throughput"] / theirs["throughput"]),
                    ):
                        worst[what] = min(ratio, worst.get(what, ratio))
        for what, ratio in worst.items():
            name = f"{call['title']}, {wire}: {what}, times as good as the best peer's, worst number of clients"
            yield _aim(name, ratio, 1, at_most=False)


def _copying(call: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for wire in _wires(call):
        cell, raw = find(call, "convpool", wire, 1), find(call, RAW, wire, 1)
        if cell and raw:
            ratio = cell["throughput"] / raw["throughput"]
            yield _aim(f"{call['title']}, {wire}: throughput / raw socket's", ratio, 0.6, at_most=False)


# ------------------------------------------------------------------------------------------------------------- Markdown


def markdown(results: dict[str, Any]) -> str:
    """Return the whole report."""
    parts = [
        "# Benchmark of the service",
        "`make bench-service` writes this file, service-results.json (all figures) and service-results.png.",
        _bullets(results),
        HOW_TO_READ,
        "![Ratios to the plain handler](service-results.png)",
    ]
    if results["aims"]:
        rows = (
            (aim["what"], f"{aim['value']:.2f}", aim["wanted"], "yes" if aim["reached"] else "no")
            for aim in results["aims"]
        )
        parts += ["## Aims", table(("ratio", "measured", "aim", "reached"), rows)]
    for call in results["calls"]:
        parts += _call(call)
    return "\n\n".join(parts) + "\n"


def _bullets(results: dict[str, Any]) -> str:
    lines = [
        f"{results['date']}; {results['cpu']}; compute threads of convpool: {results['threads']}",
        results["system"],
        *(f"{TITLES[name]}: {found}" for name, found in results["versions"].items()),
        f"{results['rounds']} rounds of {results['seconds']} s each, after {results['warm_up']} s that do not count",
        "convpool's settings: its defaults, and " + ", ".join(f"{k}={v}" for k, v in results["settings"].items()),
    ]
    others = [call["others_processors"] for call in results["calls"] if call["others_processors"] is not None]
    if others:
        lines.append(f"cores busy with other programs before each call, at most: {max(others):.2f}")
    return "\n".join(f"- {line}" for line in lines)


def _call(call: dict[str, Any]) -> Iterable[str]:
    yield f"## {call['title']}"
    computed = find(call, IN_PROCESS, None, 1)
    if computed:
        yield f"The computation alone, in process: {milliseconds(computed['p50'])} ms."
    raw = find(call, RAW, None, 1)
    if raw:
        micros = 1e6 * raw["client_processor_seconds"]
        yield f"Processor time of the client, for one response of the raw socket ({raw['wire']}): {micros:.0f} µs."
    for clients in dict.fromkeys(cell["clients"] for cell in call["cells"]):
        rows = [_cells(call, cell) for cell in call["cells"] if cell["clients"] == clients and cell["server"] in TITLES]
        heads = ["server, wire", "p50, ms", "of plain", "/ raw socket", "p99, ms", "responses/s", "of plain", "MiB/s"]
        yield f"{clients} client{'s' if clients > 1 else ''}:"
        yield table(heads, rows)


def _cells(call: dict[str, Any], cell: dict[str, Any]) -> list[str]:
    name = f"{TITLES[cell['server']]}, {cell['wire']}"
    if "p50" not in cell:
        return [name, cell["error"], *[NONE] * 6]
    plain = find(call, "plain", None, cell["clients"])
    raw = find(call, RAW, cell["wire"], cell["clients"])
    return [
        name,
        milliseconds(cell["p50"]),
        f"{cell['p50'] / plain['p50']:.2f}" if plain else NONE,
        f"{cell['p50'] / raw['p50']:.1f}" if raw else NONE,
        milliseconds(cell["p99"]) if cell["p99"] else NONE,
        f"{cell['throughput']:.4g}",
        f"{cell['throughput'] / plain['throughput']:.2f}" if plain else NONE,
        f"{cell['throughput'] * call['bytes_under_way'][cell['wire']] / MIB:.3g}",
    ]
