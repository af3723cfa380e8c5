"""The sockets that the server listens on, which all its processes share."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .settings import Settings
from .unix_socket import BACKLOG, remove_file, unix_socket

__all__ = ["BACKLOG", "CannotStart", "Listener", "listeners", "log_addresses"]

SO_ATTACH_FILTER = 26
"""Of Linux; Python's socket module does not name it."""

DROP_EVERYTHING = struct.pack("HBBI", 0x06, 0, 0, 0)
"""A socket filter in classic BPF of one instruction: of each packet, keep zero bytes."""

NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""What binding an address of a family says that this machine does not have, such as IPv6."""

logger = logging.getLogger("convpool")


class CannotStart(Exception):
    """The server cannot start with its settings; the message says why."""


@dataclass(frozen=True)
class Listener:
    """A bound socket.

    Parameters
    ----------
    socket : socket.socket
    address : str
        For the log.
    path : str, optional
        Of a Unix domain socket's file.
    inode : int, optional
        Of that file.
    is_management : bool
        Whether it is that of the management port.
    """

    socket: socket.socket
    address: str
    path: str = ""
    inode: int = 0
    is_management: bool = False

    def stop_queueing(self) -> None:
        """Let the system take no more connections, while those that it has queued can still be accepted.

        Closing resets what is in the queue, and with several processes, or another thread that holds the interpreter,
        time passes between the last accept and the last close. A client that connects meanwhile tries again by itself,
        and is then refused.
        """
        if self.path:
            remove_file(self.path, self.inode)
        elif sys.platform == "linux":
            instructions = ctypes.create_string_buffer(DROP_EVERYTHING)
            program = struct.pack("HP", 1, ctypes.addressof(instructions))
            with contextlib.suppress(OSError):  # without it the moment between the two calls remains
                self.socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


@contextlib.contextmanager
def listeners(settings: Settings) -> Iterator[list[Listener]]:
    """Bind all sockets; close them, and remove the file of a Unix domain socket, at the end.

    Ports do not listen yet: until the server is ready, connections are refused.

    Raises
    ------
    CannotStart
        If that is not possible, for example because another server listens there.
    """
    with contextlib.ExitStack() as resources:
        opened = []
        if settings.uds:
            try:
                opened = [_unix_listener(settings.uds, resources)]
            except OSError as error:
                raise CannotStart(f"Cannot listen on the Unix domain socket {settings.uds}: {error}") from None
        else:
            opened = _bound(settings, settings.host, settings.port)
        if settings.management_port:
            host = settings.management_host or settings.host
            opened += _bound(settings, host, settings.management_port, is_management=True)
        for listener in opened:
            resources.enter_context(listener.socket)
        yield opened


def log_addresses(opened: Sequence[Listener]) -> None:
    """Log where clients can connect."""
    for listener in opened:
        logger.info("Listening on %s%s", listener.address, " (management)" if listener.is_management else "")


def _unix_listener(path: str, resources: contextlib.ExitStack) -> Listener:
    bound = resources.enter_context(unix_socket(path))
    return Listener(bound, f"the Unix domain socket {path}", path, Path(path).stat().st_ino)


def _bound(settings: Settings, host: str, port: int, *, is_management: bool = False) -> list[Listener]:
    """Bind a port on each address that a host has."""
    scheme = "https" if settings.tls_certificate else "http"
    address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    found, unavailable = [], None
    try:
        known = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, where in dict.fromkeys(known):
            try:
                bound = _bind(family, kind, protocol, where)
            except OSError as error:
                if error.errno not in NOT_HERE:
                    raise
                unavailable = error
            else:
                found.append(Listener(bound, address, is_management=is_management))
        if unavailable and not found:
            raise unavailable
    except OSError as error:
        raise CannotStart(f"Cannot listen on {host or 'all addresses'}, port {port}: {error.strerror}") from None
    return found


def _bind(family: int, kind: int, protocol: int, address: Any) -> socket.socket:
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
