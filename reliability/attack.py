"""An attack: a function that runs in a process of its own, beside the clients whose waiting is measured."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from multiprocessing.synchronize import Event
from typing import Any, Self

__all__ = ["Attack", "Control", "Function"]

SPAWN = multiprocessing.get_context("spawn")
PATIENCE = 120.0


class Control:
    """What an attack is told, and what it says of itself."""

    def __init__(self, pipe: Pipe, end: Event) -> None:
        self._pipe, self._end = pipe, end
        self._is_ready = False

    def ready(self) -> None:
        """Say that the attack is under way: what it needs is prepared, and what it holds is held."""
        if not self._is_ready:
            self._is_ready = True
            self._pipe.send(None)

    def goes_on(self, seconds: float = 0.0) -> bool:
        """Wait, and return whether the attack is to go on."""
        return not self._end.wait(seconds)


Function = Callable[..., dict[str, float]]
"""Takes the port, the control and what else it needs; returns figures of what it did."""


class Attack:
    """A context manager: inside it, the attack is under way.

    Parameters
    ----------
    function : Function
        It must return soon after ``control.goes_on()`` says so.
    port : int
    **options
        Its further arguments.
    """

    def __init__(self, function: Function, port: int, **options: Any) -> None:
        self.figures: dict[str, float] = {}
        self._end = SPAWN.Event()
        self._pipe, theirs = SPAWN.Pipe()
        self._process = SPAWN.Process(target=_run, args=(function, port, theirs, self._end, options), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        self._receive()  # ready
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.stop()
        elif self._process.is_alive():
            self._process.kill()
            self._process.join()

    def stop(self) -> dict[str, float]:
        """End the attack, close its connections, and return what it says of itself."""
        if self._process.is_alive() or self._pipe.poll():
            self._end.set()
            self.figures = self._receive() or {}
            self._process.join()
        return self.figures

    def _receive(self) -> Any:
        if not self._pipe.poll(PATIENCE):
            self._process.kill()
            raise RuntimeError("the attack did not answer")
        answer = self._pipe.recv()
        if isinstance(answer, str):
            raise RuntimeError(f"the attack failed:\n{answer}")
        return answer


def _run(function: Function, port: int, pipe: Pipe, end: Event, options: dict[str, Any]) -> None:
    os.nice(10)  # as if on another machine: it does not take the processors from what is measured
    control = Control(pipe, end)
    try:
        figures = function(port, control, **options)
        control.ready()
        end.wait()
        pipe.send(dict(Counter(figures)))
    except BaseException:  # noqa: BLE001  (the process ends with it)
        pipe.send(traceback.format_exc())
