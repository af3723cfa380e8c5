"""What the container's health check runs, as a file of its own: the standard library starts fastest."""

from __future__ import annotations

import http.client
import os
import socket
import sys

__all__ = ["main"]

MAX_WAIT_SECONDS = 2.0


class UnixConnection(http.client.HTTPConnection):
    """A connection over a Unix domain socket.

    Parameters
    ----------
    path : str
    timeout : float
        In seconds.
    """

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def main() -> int:
    """Return 0 if the server on this machine takes requests, else 1."""
    path, port = os.environ.get("CONVPOOL_UDS"), int(os.environ.get("CONVPOOL_PORT", "8000"))
    connection = (
        UnixConnection(path, MAX_WAIT_SECONDS)
        if path
        else http.client.HTTPConnection("127.0.0.1", port, timeout=MAX_WAIT_SECONDS)
    )
    try:
        connection.request("GET", "/health/ready")
        return 0 if connection.getresponse().status == http.client.OK else 1
    except (OSError, http.client.HTTPException):
        return 1
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
