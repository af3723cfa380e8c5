"""HTTP/1.1 over a socket of one's own: requests as bytes, responses as they came."""

from __future__ import annotations

import select
import socket
from collections.abc import Mapping
from typing import NamedTuple, Self

__all__ = ["Broken", "Connection", "Response", "head"]

HOST = "127.0.0.1"
PIECE = 2**18


class Broken(OSError):
    """The connection ended before a whole response had come."""


class Response(NamedTuple):
    """A response; names of header fields are in lower case."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def closes(self) -> bool:
        """Whether the server says that it closes the connection."""
        return self.headers.get("connection", "").lower() == "close"


def head(target: str, fields: Mapping[str, object] | None = None, method: str = "POST") -> bytes:
    """Return a request's head.

    Parameters
    ----------
    target : str
    fields : mapping of str to object, optional
        Header fields in addition to Host.
    method : str
    """
    lines = [f"{method} {target} HTTP/1.1", f"Host: {HOST}"]
    lines += [f"{name}: {value}" for name, value in (fields or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class Connection:
    """A connection to a port of this machine; a context manager.

    Parameters
    ----------
    port : int
    seconds : float
        Within which each step must be done.
    receive_buffer : int
        Bytes that the system takes in for this program before it reads them; 0 is the system's own choice.
    """

    def __init__(self, port: int, seconds: float = 30.0, receive_buffer: int = 0) -> None:
        self.socket = socket.socket()
        self._buffer = bytearray()
        try:
            if receive_buffer:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.socket.settimeout(seconds)
            self.socket.connect((HOST, port))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.socket.sendall(data)

    def ask(self, request: bytes) -> Response:
        """Send a request and return its response."""
        self.send(request)
        return self.receive()

    def has_news(self, seconds: float = 0.0) -> bool:
        """Return whether something has come, or the server has closed."""
        return bool(self._buffer or select.select([self.socket], [], [], seconds)[0])

    def receive(self) -> Response:
        """Return the next response that is not an interim one.

        Raises
        ------
        Broken
        """
        while True:
            fields = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
            status = int(fields[0].split(" ", 2)[1])
            if status >= 200:
                break
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in fields[1:])}
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return Response(status, headers, self._chunks())
        return Response(status, headers, self._exactly(int(headers.get("content-length", 0))))

    def receive_interim(self) -> int:
        """Return the status of the next response's head, whatever it is, and leave what follows."""
        return int(self._until(b"\r\n\r\n").split(b" ", 2)[1])

    def _chunks(self) -> bytes:
        content = bytearray()
        while size := int(self._until(b"\r\n").partition(b";")[0], 16):
            content += self._exactly(size)
            self._until(b"\r\n")
        self._until(b"\r\n")
        return bytes(content)

    def _more(self) -> None:
        data = self.socket.recv(PIECE)
        if not data:
            raise Broken("the server closed the connection")
        self._buffer += data

    def _until(self, mark: bytes) -> bytes:
        while (end := self._buffer.find(mark)) < 0:
            self._more()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + len(mark)]
        return line

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        content = bytes(self._buffer[:size])
        del self._buffer[:size]
        return content
