"""Measure what golden cases take: processor time of planning, computing and writing, in milliseconds a case.

python benchmarks/golden_cases.py [--count 300] [--layer conv]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from service.cases import WRITERS, CasesTask
from service.codecs import ResponseContext
from service.operations.catalogue import CATALOGUE

Returned = TypeVar("Returned")


def timed(what: str, count: int, function: Callable[[], Returned]) -> Returned:
    """Print what a function takes for each case, and return what it returns."""
    began = time.process_time()
    returned = function()
    print(f"  {what:32}{1000 * (time.process_time() - began) / count:8.3f} ms")
    return returned


def main() -> None:
    """Measure each layer, after as many cases that are not counted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--layer", choices=[entry.name for entry in CATALOGUE])
    options = parser.parse_args()
    request: dict[str, Any] = {"count": options.count}
    for entry in CATALOGUE:
        if options.layer in (None, entry.name):
            print(entry.name)
            task = CasesTask(entry)
            task.compute(task.plan({**request, "seed": 1}, {}), {})
            plan = timed("plan", options.count, lambda: task.plan(request, {}))  # noqa: B023  (called at once)
            cases = timed("compute", options.count, lambda: task.compute(plan, {}))  # noqa: B023
            for writer in WRITERS[1:]:
                timed(writer.media_type, options.count, lambda: writer.encode(cases, ResponseContext()))  # noqa: B023


if __name__ == "__main__":
    main()
