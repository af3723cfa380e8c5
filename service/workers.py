"""Several processes that serve, and the one that starts them and replaces those that end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from enum import Enum, auto
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from uvicorn.config import STARTUP_FAILURE

from .listeners import CannotStart, Listener, log_addresses
from .observability.shared_directory import forget_worker
from .server import Server, configure_logging
from .settings import Settings

__all__ = ["Supervisor"]

SPARE_SECONDS = 5.0
"""How much longer than its requests a worker may take to end, before it is killed."""

logger = logging.getLogger("convpool")


class Order(Enum):
    """What the supervisor tells a worker."""

    SAY_NOT_READY = auto()
    END = auto()
    END_AT_ONCE = auto()


class Report(Enum):
    """What a worker tells the supervisor."""

    SERVES = auto()
    ASKED_TO_END = auto()


class State(Enum):
    """What a worker does."""

    STARTS = auto()
    SERVES = auto()
    ENDS = auto()


class WorkerServer(Server):
    """The server in a worker process, which does what the supervisor says.

    Parameters
    ----------
    settings : Settings
    listeners : sequence of Listener
    channel : Connection
        To the supervisor. Should it be gone, the worker ends.
    """

    signals = (signal.SIGTERM,)

    def __init__(self, settings: Settings, listeners: Sequence[Listener], channel: Connection) -> None:
        super().__init__(settings, listeners)
        self._channel = channel

    async def startup(self, sockets: Any = None) -> None:
        """Start, and report it."""
        await super().startup(sockets)
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._take_order)

    def announce(self) -> None:
        """Say to the supervisor that clients can connect."""
        self._report(Report.SERVES)

    def on_signal(self, received: int) -> None:  # noqa: ARG002
        """Leave it to the supervisor, which has another worker take this one's place first."""
        self._report(Report.ASKED_TO_END)

    async def stop_accepting(self) -> None:
        """Close the sockets: what is queued is for other workers, unless all end."""
        if not self.is_ready:
            await self.empty_queues()
        self.close_listeners()

    def _report(self, report: Report) -> None:
        with contextlib.suppress(OSError):
            self._channel.send(report)

    def _take_order(self) -> None:
        try:
            order = self._channel.recv()
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            logger.error("The supervisor of worker [%d] is gone: ending", os.getpid())
            self.say_not_ready()
            self.stop_queueing()
            order = Order.END
        if order is Order.SAY_NOT_READY:
            self.say_not_ready()
        else:
            self.end(at_once=order is Order.END_AT_ONCE)


def work(settings: Settings, listeners: Sequence[Listener], channel: Connection) -> None:
    """Be a worker; called in its process."""
    for each in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to all processes
        signal.signal(each, signal.SIG_IGN)
    configure_logging(settings)
    try:
        WorkerServer(settings, listeners, channel).run()
    except CannotStart as error:
        logger.error("%s", error)
        sys.exit(STARTUP_FAILURE)
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)  # what still computes was given its time, and is not waited for


class Worker:
    """A worker, as the supervisor sees it."""

    def __init__(self, settings: Settings, listeners: Sequence[Listener]) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.channel, theirs = spawn.Pipe()
        self.process: SpawnProcess = spawn.Process(target=work, args=(settings, listeners, theirs))
        self.process.start()
        theirs.close()
        self.state = State.STARTS
        self.is_outdated = False
        """Whether another worker is to take its place."""

    def order(self, order: Order) -> None:
        """Tell it something, if it is still there."""
        with contextlib.suppress(OSError):
            self.channel.send(order)

    def reports(self) -> Iterator[Report]:
        """Yield what it has reported."""
        with contextlib.suppress(EOFError, OSError):
            while self.channel.poll():
                yield self.channel.recv()


class Supervisor:
    """Keeps a number of workers that serve, all on the same sockets.

    A worker that has died is replaced. One that is asked to end (SIGTERM), and on SIGHUP each, one after the other,
    ends once its successor serves. A worker that starts slowly, on a loaded machine, is waited for.

    Parameters
    ----------
    settings : Settings
    listeners : sequence of Listener
        Bound.

    Attributes
    ----------
    status : int
        Exit status.
    """

    def __init__(self, settings: Settings, listeners: Sequence[Listener]) -> None:
        self._settings = settings
        self._listeners = listeners
        self._workers: list[Worker] = []
        self._signals: list[int] = []
        """Those that have come."""
        self._alarms: list[socket.socket] = []
        """What becomes readable when one comes."""
        self.status = 0
        self._ended_by: int | None = None
        self._is_announced = False

    def run(self) -> int:
        """Run until SIGTERM or SIGINT; return the exit status."""
        with self._signals_caught():
            self._balance()
            while self._ended_by is None and self.status == 0:
                self.step()
            self._end(at_once=self._ended_by == signal.SIGINT or self.status != 0)
        return self.status

    def step(self) -> None:
        """Wait for something to happen, take it in, and start and end workers accordingly."""
        self.take_signals(self._events(None))
        self._balance()

    def take_signals(self, received: Sequence[int]) -> None:
        """Note what signals ask for."""
        for each in received:
            if each == signal.SIGHUP:
                logger.info("Replacing the workers, one after the other")
                for worker in self._workers:
                    worker.is_outdated = True
            else:
                self._ended_by = each

    @contextlib.contextmanager
    def _signals_caught(self) -> Iterator[None]:
        alarm, sink = socket.socketpair()
        with alarm, sink:
            self._alarms.append(alarm)
            for end in (alarm, sink):
                end.setblocking(False)
            signal.set_wakeup_fd(sink.fileno())
            for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(each, lambda received, _: self._signals.append(received))
            yield
            signal.set_wakeup_fd(-1)

    def _events(self, seconds: float | None) -> list[int]:
        """Wait for something to happen, take it in, and return the signals that have come."""
        sentinels = [worker.process.sentinel for worker in self._workers]
        channels = [worker.channel for worker in self._workers if worker.process.is_alive()]
        wait([*self._alarms, *sentinels, *channels], seconds)
        for worker in list(self._workers):
            for report in worker.reports():
                if report is Report.SERVES and worker.state is State.STARTS:
                    worker.state = State.SERVES
                    self._announce()
                worker.is_outdated = worker.is_outdated or report is Report.ASKED_TO_END
            if not worker.process.is_alive():
                self._bury(worker)
        for alarm in self._alarms:
            with contextlib.suppress(BlockingIOError):
                alarm.recv(4096)
        received, self._signals = self._signals, []
        return received

    def _announce(self) -> None:
        if not self._is_announced:
            log_addresses(self._listeners)
        self._is_announced = True

    def _bury(self, worker: Worker) -> None:
        worker.process.join()
        forget_worker(worker.process.pid)  # what it counted stays
        worker.channel.close()
        self._workers.remove(worker)
        if worker.state is State.ENDS:
            return
        status = worker.process.exitcode or 0
        reason = _how_it_ended(status)
        if worker.state is State.STARTS and len(self._in_service()) >= self._settings.workers:
            logger.error("Worker [%s], a successor, %s: keeping the workers as they are", worker.process.pid, reason)
            for other in self._workers:
                other.is_outdated = False
        elif status == STARTUP_FAILURE:
            logger.error("Worker [%s] could not start (%s), nor could another: stopping", worker.process.pid, reason)
            self.status = STARTUP_FAILURE
        else:
            logger.error("Worker [%s] %s; another one takes its place", worker.process.pid, reason)

    def _in_service(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.state is not State.ENDS]

    def _balance(self) -> None:
        """Start and end workers, so that there are as many as there should be, and none outdated in the end."""
        wanted = self._settings.workers
        while len(self._in_service()) < wanted and self.status == 0:
            self._workers.append(Worker(self._settings, self._listeners))
        outdated = [worker for worker in self._in_service() if worker.is_outdated]
        if not outdated or any(worker.state is not State.SERVES for worker in self._workers):
            return  # one after the other
        if len(self._workers) > wanted:
            outdated[0].state = State.ENDS
            outdated[0].order(Order.END)
        else:
            self._workers.append(Worker(self._settings, self._listeners))

    def _end(self, *, at_once: bool) -> None:
        for worker in self._workers:
            if worker.state is State.STARTS:
                worker.process.kill()  # it has no request
            worker.state = State.ENDS
            worker.order(Order.SAY_NOT_READY)
        received: list[int] = []
        delayed_until = time.monotonic() + (0 if at_once else self._settings.shutdown_delay)
        while self._workers and not received and time.monotonic() < delayed_until:
            received = self._events(delayed_until - time.monotonic())
        for listener in self._listeners:
            listener.stop_queueing()
        at_once = at_once or signal.SIGINT in received
        for worker in self._workers:
            worker.order(Order.END_AT_ONCE if at_once else Order.END)
        for listener in self._listeners:
            listener.socket.close()
        end = time.monotonic() + self._settings.graceful_shutdown + SPARE_SECONDS
        received = []
        while self._workers and signal.SIGINT not in received and time.monotonic() < end:
            received = self._events(end - time.monotonic())
        for worker in self._workers:
            worker.process.kill()
            worker.process.join()


def _how_it_ended(status: int) -> str:
    if status >= 0:
        return f"ended with exit status {status}"
    names = {each.value: each.name for each in signal.Signals}
    return f"was killed by signal {-status} ({names.get(-status, 'unknown')})"
