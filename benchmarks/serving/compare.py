"""Compare the time of small requests with that of another checkout, in turn: ``compare.py OTHER_CHECKOUT [ROUNDS]``.

Servers of both are started anew in each round, since a process may be faster or slower than its like for as long as it
lives. What is printed is the median of the rounds' medians, in microseconds, and the ratio of both.
"""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

REQUESTS, WARM_UP = 2000, 500
START_SECONDS = 60


def main() -> None:
    """Run the comparison and print it."""
    checkouts = {"this": Path(__file__).parents[2], "other": Path(sys.argv[1]).resolve()}
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 6
    medians: dict[str, dict[str, list[float]]] = {call: {name: [] for name in checkouts} for call in CALLS}
    for number in range(rounds):
        for name in sorted(checkouts, reverse=bool(number % 2)):
            for call, seconds in _measured(checkouts[name]).items():
                medians[call][name].append(seconds * 1e6)
    print(f"{'':24}{'this':>8}{'other':>8}{'ratio':>8}   (best, worst of {rounds} rounds)")
    for call, by_name in medians.items():
        this, other = (statistics.median(by_name[name]) for name in ("this", "other"))
        ends = "   ".join(f"{min(values):.0f}-{max(values):.0f}" for values in by_name.values())
        print(f"{call:24}{this:8.0f}{other:8.0f}{this / other:8.2f}   {ends}")


def _request(path: str, media_type: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _calls() -> dict[str, bytes]:
    rng = np.random.default_rng(1)
    operands = {
        "input": rng.standard_normal((1, 8, 8, 3), np.float32),
        "weight": rng.standard_normal((3, 3, 3, 4), np.float32),
    }
    npz, npy = io.BytesIO(), io.BytesIO()
    np.savez(npz, **operands)
    np.save(npy, operands["input"])
    text = json.dumps({name: array.tolist() for name, array in operands.items()}).encode()
    return {
        "conv, npz": _request("/conv/forward", "application/x-npz", npz.getvalue()),
        "conv, JSON": _request("/conv/forward", "application/json", text),
        "pool, npy": _request("/pool/forward?mode=max&kernel_size=2", "application/x-npy", npy.getvalue()),
    }


CALLS = _calls()


def _measured(checkout: Path) -> dict[str, float]:
    """Return the median seconds of each call to a new server of a checkout."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "service", "serve", "--port", str(port), "--log-level", "warning"]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    server = subprocess.Popen(command, cwd=checkout, env=environment)
    try:
        connection = _connected(port)
        with connection:
            return {name: _median(connection, request) for name, request in CALLS.items()}
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def _connected(port: int) -> socket.socket:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            connection = socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection


def _median(connection: socket.socket, request: bytes) -> float:
    size = _body_size(connection, request)
    seconds = []
    for _ in range(WARM_UP + REQUESTS):
        began = time.perf_counter()
        connection.sendall(request)
        content = connection.recv(2**16)
        while len(content) < content.find(b"\r\n\r\n") + 4 + size:
            content += connection.recv(2**16)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[WARM_UP:])


def _body_size(connection: socket.socket, request: bytes) -> int:
    """Return the size of the body of a response; that of all later ones to the same request is the same."""
    size = 0
    for _ in range(3):  # the first ones are not computed the way later ones are
        connection.sendall(request)
        with connection.makefile("rb") as response:
            head = b"".join(iter(response.readline, b"\r\n"))
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode("latin-1"))
            size = int(head.lower().partition(b"content-length: ")[2].split()[0])
            response.read(size)
    return size


if __name__ == "__main__":
    main()
