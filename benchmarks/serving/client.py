"""The load generator: sends one request over and over on several connections, and times the responses.

It is the same for every server, and does little: precomputed bytes go out, and bytes are counted until a response's
Content-Length is reached. It prints one JSON object, see ``drive``. ``benchmarks.serving.bench`` runs it, in a process
of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import selectors
import socket
import time
from pathlib import Path
from typing import Any

__all__ = ["Failed", "drive", "head_of"]

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
FIRST_BUFFER = 2**16
RECEIVING = selectors.EVENT_READ
SENDING = selectors.EVENT_READ | selectors.EVENT_WRITE  # a server may refuse a request before it has read all of it


class Failed(Exception):
    """A response that is not 200, or none at all."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def head_of(received: bytes | bytearray, end: int) -> tuple[int, int] | None:
    """Return the status and the whole size of a response in bytes; None if its head is not complete.

    Parameters
    ----------
    received : bytes-like
        The response so far.
    end : int
        How much of it there is.

    Raises
    ------
    Failed
        If the response does not say how long it is.
    """
    head_end = received.find(b"\r\n\r\n", 0, end)
    if head_end < 0:
        return None
    head = bytes(received[:head_end])
    length = CONTENT_LENGTH.search(head)
    if length is None:
        raise Failed("a response without Content-Length")
    return int(head[9:12]), head_end + 4 + int(length[1])


class Connection:
    """A connection on which one request at a time is sent."""

    def __init__(self, port: int, request: bytes, selector: selectors.BaseSelector) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = memoryview(request)
        self._selector = selector
        self._buffer = bytearray(FIRST_BUFFER)
        self._sent = self._received = self._size = 0
        self.status = 0
        self.began = 0.0
        selector.register(self._socket, RECEIVING, self)

    def close(self) -> None:
        self._socket.close()

    def leave(self) -> None:
        """Take no notice any more: a server may close what is idle."""
        self._selector.unregister(self._socket)

    @property
    def response(self) -> bytes:
        """The last response, head and body."""
        return bytes(self._buffer[: self._size])

    def begin(self) -> None:
        """Send a request, or as much of it as the system takes now."""
        self._sent = self._received = self._size = 0
        self.began = time.perf_counter()
        if not self._send():
            self._selector.modify(self._socket, SENDING, self)

    def handle(self, events: int) -> bool:
        """Go on sending and receiving; return whether the response is complete."""
        if events & selectors.EVENT_WRITE and self._send():
            self._selector.modify(self._socket, RECEIVING, self)
        return bool(events & selectors.EVENT_READ) and self._receive()

    def _send(self) -> bool:
        try:
            self._sent += self._socket.send(self._request[self._sent :])
        except BlockingIOError:
            return False
        return self._sent == len(self._request)

    def _receive(self) -> bool:
        count = self._socket.recv_into(memoryview(self._buffer)[self._received :])
        if count == 0:
            raise Failed("the server closed the connection")
        self._received += count
        if not self._size:
            head = head_of(self._buffer, self._received)
            if head is None:
                return False
            self.status, self._size = head
            if self._size > len(self._buffer):
                self._buffer += bytes(self._size - len(self._buffer))
        return self._received >= self._size


def drive(port: int, request: bytes, clients: int, warm_up: float, seconds: float, patience: float) -> dict[str, Any]:
    """Send a request again and again from several clients, each of which waits for its response first.

    Parameters
    ----------
    port : int
    request : bytes
    clients : int
        Connections.
    warm_up : float
        Seconds before anything counts; at least one response comes before, too.
    seconds : float
        After this time no request is begun; at least one response counts, and all that were begun are waited for.
    patience : float
        Seconds after which it fails.

    Returns
    -------
    dict
        ``latencies``, in seconds; ``seconds`` in which they came; ``first``, the first response;
        ``processor_seconds`` that this process took for one response.

    Raises
    ------
    Failed, OSError
    """
    latencies: list[float] = []
    first, responses, counting_from, last = b"", 0, 0.0, 0.0
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        connections = [
            stack.enter_context(contextlib.closing(Connection(port, request, selector))) for _ in range(clients)
        ]
        start, processor_start = time.perf_counter(), time.process_time()
        for connection in connections:
            connection.begin()
        waiting = clients
        while waiting:
            ready = selector.select(patience)
            if not ready or time.perf_counter() - start > patience:
                raise Failed(f"not done within {patience:.0f} s")
            for key, events in ready:
                connection = key.data
                if not connection.handle(events):
                    continue
                now = time.perf_counter()
                if connection.status != 200:
                    raise Failed(f"status {connection.status} after {responses} responses", connection.status)
                responses += 1
                if counting_from:
                    latencies.append(now - connection.began)
                    last = now
                elif now - start >= warm_up:
                    counting_from = now
                first = first or connection.response
                if latencies and now - counting_from >= seconds:
                    waiting -= 1
                    connection.leave()
                else:
                    connection.begin()
        processor_seconds = (time.process_time() - processor_start) / responses
    return {
        "latencies": latencies,
        "seconds": last - counting_from,
        "first": first,
        "processor_seconds": processor_seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--request", type=Path, required=True, help="file with the bytes of the request")
    parser.add_argument("--response", type=Path, required=True, help="file for the first response")
    parser.add_argument("--clients", type=int, required=True)
    for name in ("--warm-up", "--seconds", "--patience"):
        parser.add_argument(name, type=float, required=True)
    options = vars(parser.parse_args())
    response = options.pop("response")
    options["request"] = options["request"].read_bytes()
    try:
        answer = drive(**options)
        response.write_bytes(answer.pop("first"))
    except (Failed, OSError) as error:
        answer = {"error": str(error), "status": getattr(error, "status", None)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
