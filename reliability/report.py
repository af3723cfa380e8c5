"""Write the tables of docs/reliability.md from the programs' figures: ``python -m reliability.report FILE...``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["PAGE", "main", "written"]

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- figures: written by reliability.report -->", "<!-- end of the figures -->"
TITLES = {
    "chaos": "Attacks",
    "soak": "Soak",
    "fuzz": "Changed requests",
    "fuzz_codecs": "Codecs",
    "fuzz_schema": "The description as a test",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="what --json of a program wrote")
    parser.add_argument("--page", type=Path, default=PAGE, help="(default: docs/reliability.md)")
    options = parser.parse_args(arguments)
    results = [json.loads(file.read_text()) for file in options.files]
    options.page.write_text(written(options.page.read_text(), results))
    return 0


def written(page: str, results: Iterable[dict[str, Any]]) -> str:
    """Return the page with the tables of these results in the place for them.

    Parameters
    ----------
    page : str
    results : iterable of dict
        What ``--json`` of the programs wrote.
    """
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"the page has no lines {BEGIN} and {END}")
    sections = [_section(result) for result in sorted(results, key=lambda each: [*TITLES].index(each["program"]))]
    return "\n\n".join([before + BEGIN, *sections, END + after])


def _section(result: dict[str, Any]) -> str:
    program = result["program"]
    table = TABLES.get(program, _figures)
    where = f"{result['date']}; {result['system']}; {result['load_before']} programs wanted a processor before."
    return "\n\n".join([f"### {TITLES[program]}", where, table(result)])


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _chaos(result: dict[str, Any]) -> str:
    rows = []
    for scenario in result["scenarios"]:
        figures = scenario["figures"]
        failed = [criterion for criterion, holds in scenario["criteria"].items() if not holds]
        memory = f"{figures['mib_before']} to {figures['mib_peak']}" if "mib_before" in figures else ""
        times = [figures.get(name, "") for name in ("idle_p99_ms", "attack_p99_ms", "attack_max_ms")]
        verdict = f"**{'; '.join(failed)}**" if failed else "held"
        rows.append([f"`{scenario['name']}`", scenario["description"], *times, memory, verdict])
    header = ("attack", "what is done", "p99 idle, ms", "p99 beside it, ms", "longest, ms", "MiB resident", "criteria")
    seconds = f"Each attack went on for {result['seconds']:g} s or longer."
    return f"{seconds}\n\n{_table(header, rows)}"


def _codecs(result: dict[str, Any]) -> str:
    rows = [
        [f"`{name}`", figures["calls"], figures["branches"], "**finding**" if figures["exit_status"] else "none"]
        for name, figures in result["figures"].items()
    ]
    return _table(("codec", "bodies tried", "branches reached", "findings"), rows)


def _figures(result: dict[str, Any]) -> str:
    rows = [[name.replace("_", " "), value] for name, value in result["figures"].items()]
    rows += [[criterion, "yes" if holds else "**no**"] for criterion, holds in result["criteria"].items()]
    return _table(("figure", "value"), rows)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {"chaos": _chaos, "fuzz_codecs": _codecs}


if __name__ == "__main__":
    sys.exit(main())
