"""Time reading tensors in JSON against the parsers alone, as ratios within one process.

Usage: python benchmarks/json_decoding.py

The last column is how long a thread that only wants to tick waited at most while one request was decoded.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from service.codecs import JSON_CODEC, Limits, RequestContext

SHAPE = (64, 28, 28, 20)
OPERANDS = ["input", "weight"]
REQUEST, LIMITS = RequestContext(OPERANDS), Limits(0, lambda _: None)


def bodies() -> dict[str, bytes]:
    random = np.random.default_rng(0)
    normal = random.standard_normal(SHAPE)
    float32 = normal.astype(np.float32)
    tiny = {"input": float32[:1, :8, :8, :3], "weight": float32[:3, :3, :3, :1], "stride": 2, "padding": 1}
    flat = {"dtype": "float32", "shape": SHAPE, "data": float32.reshape(-1)}
    return {
        "float32": dumped({"dtype": "float32", "input": float32}),
        "float32, one channel": dumped({"dtype": "float32", "input": float32.reshape(64, 28, 560, 1)}),
        "float32, flat": dumped({"input": flat}),
        "float32, rectified": dumped({"dtype": "float32", "input": np.maximum(float32, 0)}),
        "float32, as json.dumps writes it": json.dumps({"dtype": "float32", "input": float32.tolist()}).encode(),
        "float64, 17 digits": dumped({"input": normal}),
        "integers to float32": dumped({"dtype": "float32", "input": random.integers(0, 256, SHAPE)}),
        "integers to uint8": dumped({"dtype": "uint8", "input": random.integers(0, 256, SHAPE)}),
        "tiny": dumped(tiny),
    }


def dumped(content: Any) -> bytes:
    contiguous = {
        name: np.ascontiguousarray(value) if isinstance(value, np.ndarray) else value for name, value in content.items()
    }
    return orjson.dumps(contiguous, option=orjson.OPT_SERIALIZE_NUMPY)


def parsed(loads: Callable[[bytes], Any], body: bytes) -> dict[str, Any]:
    """Do what a handler without checks does with nested lists and with flat data."""
    content = loads(body)
    for name in OPERANDS:
        if name in content:
            value = content[name]
            content[name] = np.asarray(value["data"] if isinstance(value, dict) else value, np.float32)
    return content  # type: ignore[no-any-return]


def decoded(body: bytearray) -> None:
    JSON_CODEC.decode(body, REQUEST, LIMITS)


def best(ways: list[Callable[[], Any]], repeats: int) -> list[float]:
    """Return each way's shortest time in seconds; they take turns."""
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(repeats):
        for way, taken in zip(ways, times, strict=True):
            start = time.thread_time()
            way()
            taken.append(time.thread_time() - start)
    return [min(taken) for taken in times]


def longest_wait(work: Callable[[], Any]) -> float:
    """Return how long a thread that ticks waited at most while another one worked, in seconds."""
    thread = threading.Thread(target=work)
    longest, last = 0.0, time.perf_counter()
    thread.start()
    while thread.is_alive():
        time.sleep(0.0005)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return longest


def main() -> None:
    print(f"{'':34}  decode     json.loads +  orjson.loads +  longest")
    print(f"{'':34}             asarray       asarray         wait")
    for name, body in bodies().items():
        ways = [
            partial(decoded, bytearray(body)),
            partial(parsed, json.loads, body),
            partial(parsed, orjson.loads, body),
        ]
        ours, *others = best(ways, 7 if len(body) > 10_000 else 1000)
        ratios = "".join(f"{other / ours:8.2f} x    " for other in others)
        wait = min(longest_wait(ways[0]) for _ in range(3))
        print(f"{name:34}{1000 * ours:8.2f} ms {ratios}{1000 * wait:8.1f} ms", flush=True)


if __name__ == "__main__":
    main()
