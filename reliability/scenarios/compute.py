"""Computations that take the processors for seconds."""

from __future__ import annotations

import contextlib
import io
import time

import numpy as np

from ..attack import Attack, Control
from ..outcome import Context, Outcome, scenario
from ..wire import Connection, head


def long_convolution(images: int = 7) -> bytes:
    """Return a request of some KiB for 10^10 multiply-accumulates for each image: a second of one core, or so."""
    file = io.BytesIO()
    np.savez_compressed(
        file,
        input=np.zeros((images, 160, 160, 32), np.float32),
        weight=np.zeros((15, 15, 32, 64), np.float32),
    )
    fields = {"Content-Type": "application/x-npz", "Content-Length": len(file.getvalue())}
    return head("/conv/forward", fields) + file.getvalue()


def convolve(port: int, control: Control, clients: int = 6, images: int = 7) -> dict[str, float]:
    """Keep so many long convolutions under way; at the end, all clients leave at once."""
    request = long_convolution(images)
    held: list[Connection | None] = [None] * clients
    answered = busy = failed = 0
    while control.goes_on(0.05):
        for index, connection in enumerate(held):
            try:
                if connection is None:
                    held[index] = opened = Connection(port, 60)
                    opened.send(request)
                elif connection.has_news():
                    status = connection.receive().status
                    answered += status == 200
                    busy += status in (429, 503)
                    failed += status not in (200, 429, 503)
                    connection.close()
                    held[index] = None
            except OSError:
                failed += 1
                held[index] = None
        control.ready()
    for connection in held:
        if connection is not None:
            connection.close()
    return {"long_200": answered, "long_busy": busy, "long_failed": failed}


def leave(port: int, control: Control) -> dict[str, float]:
    """Ask for long convolutions, one after the other, and leave each after some tenths of a second."""
    request, left = long_convolution(), 0
    control.ready()
    while control.goes_on():
        with contextlib.suppress(OSError), Connection(port, 5) as connection:
            connection.send(request)
            control.goes_on(0.2)
            left += 1
    return {"left": left}


@scenario
def long_convolutions(context: Context, outcome: Outcome) -> None:
    """6 clients each have a convolution of 7 x 10^10 multiply-accumulates under way; then all of them leave."""
    with context.server() as server:
        with Attack(convolve, server.port):
            time.sleep(max(2.0, min(5.0, context.seconds)))
        # the processor must be free after half a second
        time.sleep(0.5)
        before, start = server.cpu_seconds(), time.perf_counter()
        time.sleep(1.0)
        busy = (server.cpu_seconds() - before) / (time.perf_counter() - start)
        outcome.note(cores_busy_after_leaving=round(busy, 2))
        outcome.require("processor free 0.5 s after the clients left", holds=busy < 0.1)
        end = time.monotonic() + 120
        while busy >= 0.1 and time.monotonic() < end:
            before = server.cpu_seconds()
            time.sleep(0.5)
            busy = (server.cpu_seconds() - before) / 0.5
        outcome.note(free_after_s=round(time.perf_counter() - start + 0.5, 1))
        context.beside(outcome, server, convolve)


@scenario
def middle_convolutions(context: Context, outcome: Outcome) -> None:
    """32 clients each have a convolution of 10^10 multiply-accumulates under way, one after the other."""
    with context.server() as server:
        context.beside(outcome, server, convolve, clients=32, images=1)


@scenario
def leaving_clients(context: Context, outcome: Outcome) -> None:
    """One client asks for a convolution of seconds and leaves after 0.2 s, again and again."""
    with context.server() as server:
        context.beside(outcome, server, leave)
