"""Attack a server in many ways, and say whether others noticed: ``python -m reliability.chaos --help``."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import scenarios  # noqa: F401  (each adds its own to SCENARIOS)
from .calls import small_calls
from .machine import machine
from .outcome import SCENARIOS, Context, Outcome, Scenario


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the scenarios that are asked for; return 1 if a criterion of one does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(SCENARIOS), metavar="NAME", help="scenarios (default: all)")
    parser.add_argument("--seconds", type=float, default=10.0, help="that an attack goes on (default: 10)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="for all figures")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="for what the servers print")
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    options = parser.parse_args(arguments)
    if options.list:
        for each in SCENARIOS.values():
            print(f"{each.name:26} {each.description}")
        return 0
    results: dict[str, Any] = {"program": "chaos", **machine(), "seconds": options.seconds, "scenarios": []}
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        logs = options.logs or Path(folder)
        logs.mkdir(parents=True, exist_ok=True)
        prepared = Context(options.seconds, logs, small_calls())
        for name in options.only or SCENARIOS:
            result = outcome_of(SCENARIOS[name], prepared)
            failed += not result["passed"]
            print(line_of(result), flush=True)
            results["scenarios"].append(result)
            if options.json:
                options.json.write_text(json.dumps(results, indent=1) + "\n")
    print(f"{len(results['scenarios']) - failed} of {len(results['scenarios'])} scenarios passed")
    return int(failed > 0)


def outcome_of(scenario: Scenario, prepared: Context) -> dict[str, Any]:
    """Run a scenario, and return its figures and criteria; one that could not be run has failed."""
    outcome, start = Outcome(), time.perf_counter()
    try:
        scenario.run(prepared, outcome)
    except Exception as error:  # noqa: BLE001  (what a server under attack does to its clients may be anything)
        traceback.print_exc()
        outcome.require(f"the scenario ran to its end ({type(error).__name__})", holds=False)
    return {
        "name": scenario.name,
        "description": scenario.description,
        "taken_seconds": round(time.perf_counter() - start, 1),
        "figures": outcome.figures,
        "criteria": outcome.criteria,
        "passed": not outcome.failed,
    }


def line_of(result: dict[str, Any]) -> str:
    """Return the line that is printed of a scenario."""
    figures = ", ".join(f"{name} {value}" for name, value in result["figures"].items())
    failed = [criterion for criterion, holds in result["criteria"].items() if not holds]
    verdict = "passed" if result["passed"] else f"FAILED: {'; '.join(failed)}"
    return f"{result['name']}: {figures}: {verdict}"


if __name__ == "__main__":
    sys.exit(main())
