"""The connections of one process: how many there may be, and which one makes room for another."""

from __future__ import annotations

import asyncio
import logging
import resource
from collections import OrderedDict
from typing import Protocol

from ..settings import Settings

__all__ = [
    "CONNECTIONS",
    "MANAGEMENT_CONNECTIONS",
    "MAX_MANAGEMENT_CONNECTIONS",
    "Connection",
    "Connections",
    "descriptors",
]

CONNECTIONS = "convpool.connections"
"""Where in the state of the application's lifespan the connections are."""

MANAGEMENT_CONNECTIONS = "convpool.management_connections"
"""Where those to the management port are: clients of the main port must not keep probes and Prometheus out."""

MAX_MANAGEMENT_CONNECTIONS = 16

MARGIN = 16
"""Connections above the limit, which are told that there are too many."""

RESERVED = 32 + MAX_MANAGEMENT_CONNECTIONS + MARGIN
"""Descriptors for everything but connections to the main port: the management port's, listening sockets, the event
loop, logs, files."""

IDLE_SECONDS = 1.0
"""How long connections without a request stay open when the server shuts down. A client that is about to use its
connection again is told on it to close it, which it takes better than to find it closed."""

logger = logging.getLogger("convpool")


class Connection(Protocol):
    """What the connections of a process have in common with each other."""

    def evict(self) -> None:
        """Make room: end at once."""

    def refuse_newcomer(self) -> None:
        """Tell the client that there are too many connections, and end."""

    def close_after_response(self) -> None:
        """End with the response that is under way, if there is one."""

    def shutdown(self) -> None:
        """End now if there is no request, else with the response to it."""


class Connections:
    """The connections of one process.

    A connection waits while there is no request on it: it is new, kept alive, or its next request's head is not
    complete. When there are too many connections, the one that has waited longest makes room for a new one. So
    clients that hold connections without using them never keep others out.

    Parameters
    ----------
    settings : Settings
    limit : int
        Maximum number of connections.

    Attributes
    ----------
    limit : int
    header_timeout, send_timeout : float
        In seconds.
    min_rate : int
        Bytes per second.
    waiting : ordered dict
        The connections that wait, as keys, in the order in which they began to. Each notes here when it does, and when
        it does not; for a small request, a call would take longer.
    lingering : int
        Connections that were sent their last response, and whose clients may still be sending.
    is_ending : bool
        Whether the server shuts down: every response closes its connection.
    """

    def __init__(self, settings: Settings, limit: int) -> None:
        self.limit = limit
        self.header_timeout, self.send_timeout = settings.header_timeout, settings.send_timeout
        self.min_rate = settings.min_transfer_rate
        self.lingering = 0
        self.is_ending = False
        self._all: set[Connection] = set()
        self.waiting: OrderedDict[Connection, None] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of connections."""
        return len(self._all)

    @property
    def busy(self) -> int:
        """Number of connections with a request under way."""
        return len(self._all) - len(self.waiting)

    def add(self, connection: Connection) -> None:
        """Count a new connection, which waits; another one may have to end for it, or it is refused."""
        if len(self._all) >= self.limit:
            self._make_room(connection)
        else:
            self._all.add(connection)
            self.waiting[connection] = None

    def _make_room(self, newcomer: Connection) -> None:
        is_full = self.busy >= self.limit
        self._all.add(newcomer)
        if self.waiting and (not is_full or len(self._all) > self.limit + MARGIN):
            oldest = next(iter(self.waiting))
            self.remove(oldest)
            oldest.evict()
        self.waiting[newcomer] = None
        if is_full:
            newcomer.refuse_newcomer()

    def remove(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._all.discard(connection)
        self.waiting.pop(connection, None)

    def begin_shutdown(self) -> None:
        """Let every response close its connection from now on, and connections without a request end soon.

        To be called on the event loop. Connections that are new, or are accepted later, have their request served.
        """
        if self.is_ending:
            return
        self.is_ending = True
        for connection in self._all:
            connection.close_after_response()
        asyncio.get_running_loop().call_later(IDLE_SECONDS, self._close_idle)

    def _close_idle(self) -> None:
        for connection in list(self.waiting):
            connection.shutdown()


def descriptors(limit: int) -> int:
    """Return how many connections the process can have, up to a limit, after raising its limit of open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limit + RESERVED + MARGIN
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return limit
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):
        allowed = soft
    possible = max(1, min(limit, allowed - RESERVED - MARGIN))
    if possible < limit:
        logger.warning(
            "The limit of open files (%d) allows %d connections, not %d as CONVPOOL_MAX_CONNECTIONS says",
            allowed,
            possible,
            limit,
        )
    return possible
