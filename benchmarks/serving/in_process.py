"""Time a call's computation alone, in this process: prints the seconds of each computation as JSON."""

from __future__ import annotations

import argparse
import json

from benchmarks.serving.calls import CALLS
from benchmarks.worker import WARM_UP, timed
from cnn_core.runtime.threads import get_threads, set_threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--call", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    set_threads(get_threads(), pin=True)  # as the service does
    (call,) = (call for call in CALLS if call.name == options.call)
    timed(call.compute, WARM_UP)
    print(json.dumps({"latencies": timed(call.compute, options.seconds)}))


if __name__ == "__main__":
    main()
