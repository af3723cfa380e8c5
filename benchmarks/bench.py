"""Time convpool against PyTorch, ONNX Runtime and JAX, and measure its errors and its memory: ``make bench``.

Writes results.md, results.json and results.png. ``--help`` shows the options; what each part measures is said in the
report, in ``benchmarks.report``.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.engines import convpool
from benchmarks.figures import (
    CHOICES,
    MEASURES,
    NAMES,
    best_medians,
    for_each_choice,
    least_seconds,
    medians,
    ratios,
    summary,
    targets,
)
from benchmarks.machine import cpu_model, others_seconds
from benchmarks.picture import draw
from benchmarks.processes import DIRECTIONS, ROOT, Worker, WorkerError, time_in_turn, workers_at_once
from benchmarks.report import markdown
from benchmarks.suite import Layer, layers_named
from cnn_core.runtime.threads import get_threads

PEERS = [name for name in NAMES if name != "convpool"]
AGREEMENT = 1e-11
"""How far two references in float64 may be apart."""

IDLE = 0.1
"""Processors that others may take: PyTorch, whose threads wait for each other, loses far more by them than convpool."""

Settings = argparse.Namespace


def parse_arguments() -> Settings:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="SUBSTRING", help="only layers whose names hold it")
    parser.add_argument("--engines", nargs="+", choices=NAMES, default=list(NAMES), help="convpool is always one")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each engine (%(default)s)")
    parser.add_argument("--seconds", type=float, default=0.1, help="length of a turn (%(default)s)")
    parser.add_argument("--threads", type=int, default=get_threads(), help="of each engine (%(default)s)")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks", metavar="DIR", help="of the results")
    settings = parser.parse_args()
    settings.engines = ["convpool", *(peer for peer in PEERS if peer in settings.engines)]
    settings.layers = layers_named(settings.only)
    if not settings.layers:
        parser.error("no layer has such a name")
    return settings


def measured_errors(layers: list[Layer], threads: int) -> dict[str, dict[str, Any]]:
    """Return the errors of each layer's results.

    Raises
    ------
    SystemExit
        If PyTorch contradicts the results that they are measured from.
    """
    errors = {}
    with Worker("convpool", threads) as worker:
        for layer in layers:
            found = errors[layer.name] = worker.ask(errors=layer.name)
            print(f"{layer.name:38} reference confirmed to {found['reference']:.1e}", flush=True)
            if not found["reference"] <= AGREEMENT:  # nor if it is NaN
                sys.exit(f"{layer.name}: convpool and PyTorch differ by {found['reference']:.1e} in float64")
    return errors


def measured_peaks(threads: int) -> dict[str, float]:
    with Worker("convpool", threads) as worker:
        return worker.ask(peaks=True)


def measured_workspace(layer: Layer, options: dict[str, Any], threads: int) -> dict[str, int]:
    with Worker("convpool", threads) as worker:
        return worker.ask(workspace=layer.name, options=options)


def measured_layer(layer: Layer, settings: Settings, peaks: dict[str, float]) -> dict[str, Any]:
    """Return all figures of a layer but its errors."""
    choices = convpool.choices(layer)
    workspace = {name: measured_workspace(layer, options, settings.threads) for name, options in choices.items()}
    engines = {**dict.fromkeys(choices, "convpool"), **{peer: peer for peer in settings.engines if peer in PEERS}}
    start, others = time.perf_counter(), others_seconds()
    with workers_at_once({label: (engine, ROOT) for label, engine in engines.items()}, settings.threads) as workers:
        first = {
            label: worker.ask(build=layer.name, options=choices.get(label, {})) for label, worker in workers.items()
        }
        measures = DIRECTIONS if layer.kind == "conv" else MEASURES
        seconds = medians(time_in_turn(workers, settings.rounds, settings.seconds, measures))
    best = best_medians(seconds)
    if others is not None:
        others = max(0.0, (others_seconds() - others) / (time.perf_counter() - start))
    least = least_seconds(layer, peaks)
    return {
        **dataclasses.asdict(layer),
        "is_notebook": is_notebook(layer),
        "multiply_accumulates": layer.multiply_accumulates,
        "choices": list(choices),
        "seconds": seconds,
        "best": best,
        "ratios": ratios(best),
        "share_of_peak": {choice: least / best["forward"][choice] for choice in CHOICES},
        "others_processors": others,
        "workspace_bytes": for_each_choice(workspace),
        "first_call_seconds": for_each_choice({choice: max(first[choice].values()) for choice in choices}),
    }


def is_notebook(layer: Layer) -> bool:
    return layer.name.startswith("notebook")


def measured_notebook(layers: list[Layer], settings: Settings) -> list[dict[str, Any]] | None:
    """Return the figures of the notebook's loops; None if the tests, which hold them, cannot be imported here."""
    rows = []
    engines = {"notebook": ("notebook", ROOT), "auto": ("convpool", ROOT)}
    for layer in filter(is_notebook, layers):
        try:
            with workers_at_once(engines, settings.threads) as workers:
                for worker in workers.values():
                    worker.ask(build=layer.name, changes={"dtype": "float64"})
                best = best_medians(medians(time_in_turn(workers, settings.rounds, settings.seconds)))
        except WorkerError as error:
            print(f"the notebook's loops are left out: {error}", file=sys.stderr)
            return None
        rows += [
            {
                "name": layer.name,
                "direction": direction,
                **best[direction],
                "ratio": best[direction]["notebook"] / best[direction]["auto"],
            }
            for direction in DIRECTIONS
        ]
    return rows or None


def versions(settings: Settings) -> dict[str, str]:
    found = {}
    for name in settings.engines:
        with Worker(name, settings.threads) as worker:
            found[name] = worker.ask(version=True)
    return found


def describe(row: dict[str, Any]) -> str:
    """Return some lines about a layer, for those who wait."""
    lines = [row["name"]]
    if (row["others_processors"] or 0) > IDLE:
        lines[0] += f"  NOT IDLE: others took {row['others_processors']:.2f} processors"
    for choice in row["choices"]:
        line = f"  {choice:8}"
        for direction in DIRECTIONS:
            line += f"  {direction} {1000 * row['best'][direction][choice]:8.3f} ms"
            line += "".join(f" {NAMES[peer]} {ratio:.2f}" for peer, ratio in row["ratios"][direction][choice].items())
        lines.append(line)
    return "\n".join(lines)


def measured(settings: Settings) -> dict[str, Any]:
    """Return all figures."""
    results: dict[str, Any] = {
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "cpu": cpu_model(),
        "system": f"{platform.system()}, Python {platform.python_version()}",
        "threads": settings.threads,
        "rounds": settings.rounds,
        "seconds": settings.seconds,
        "engines": settings.engines,
        "versions": versions(settings),
        "peaks": {"one": measured_peaks(1), "all": measured_peaks(settings.threads)},
        "layers": [],
    }
    errors = measured_errors(settings.layers, settings.threads) if "pytorch" in settings.engines else {}
    for layer in settings.layers:
        row = measured_layer(layer, settings, results["peaks"]["all"]) | {"errors": errors.get(layer.name, {})}
        results["layers"].append(row)
        print(describe(row), flush=True)
    results["notebook"] = measured_notebook(settings.layers, settings)
    results["summary"] = summary(results["layers"], [peer for peer in PEERS if peer in settings.engines])
    results["targets"] = targets(results["summary"]["given"])
    return results


def write(results: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "results.md").write_text(markdown(results))
    if "pytorch" in results["engines"]:
        subtitle = f"{results['date']}; {results['cpu']}; threads: {results['threads']}"
        draw(results["layers"], subtitle, folder / "results.png")


def main() -> None:
    settings = parse_arguments()
    try:
        results = measured(settings)
    except WorkerError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    write(results, settings.output)
    for each in results["summary"]["without_notebook"]:
        found = (
            f"{choice} {each[choice]['geometric_mean']:.2f} (worst {each[choice]['worst']['value']:.2f})"
            for choice in CHOICES
        )
        print(f"{NAMES[each['peer']]}, {each['part']}: {', '.join(found)}")


if __name__ == "__main__":
    main()
