"""What the container's health check runs, as a file of its own: the standard library starts fastest.

It speaks HTTP itself: where this file lies, the package ``http`` is the service's.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
from collections.abc import Mapping

__all__ = ["main"]

MAX_WAIT_SECONDS = 2.0

REQUEST = b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

OK = b"HTTP/1.1 200 "

ANY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (compared with, not listened on)
"""Where a server can be reached that listens on all addresses."""


def main() -> int:
    """Return 0 if the server on this machine takes requests, else 1."""
    try:
        with connected(os.environ) as connection:
            connection.sendall(REQUEST)
            answer = b""
            while len(answer) < len(OK) and (received := connection.recv(len(OK) - len(answer))):
                answer += received
    except OSError:
        return 1
    return 0 if answer == OK else 1


def connected(settings: Mapping[str, str]) -> socket.socket:
    """Connect to the management port, if there is one, else to the Unix domain socket or the port.

    Parameters
    ----------
    settings : mapping of str to str
        Environment variables, as the server has them.
    """
    path = settings.get("CONVPOOL_UDS")
    management = settings.get("CONVPOOL_MANAGEMENT_PORT", "0")
    if path and management == "0":
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(MAX_WAIT_SECONDS)
        try:
            connection.connect(path)
        except OSError:
            connection.close()
            raise
        return connection
    host, port = settings.get("CONVPOOL_HOST", ""), settings.get("CONVPOOL_PORT", "8000")
    if management != "0":
        host, port = settings.get("CONVPOOL_MANAGEMENT_HOST") or host, management
    if port.startswith("tcp://"):  # set by Kubernetes: no setting
        port = "8000"
    connection = socket.create_connection((ANY_ADDRESS.get(host, host), int(port)), MAX_WAIT_SECONDS)
    if settings.get("CONVPOOL_TLS_CERTIFICATE"):
        unverified = ssl.create_default_context()  # the certificate is of the name that clients use
        unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
        return unverified.wrap_socket(connection)
    return connection


if __name__ == "__main__":
    sys.exit(main())
