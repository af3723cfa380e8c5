"""What the container's health check runs, as a file of its own: the standard library starts fastest."""

from __future__ import annotations

import http.client
import os
import sys

__all__ = ["main"]

MAX_WAIT_SECONDS = 2.0


def main() -> int:
    """Return 0 if the server on this machine takes requests, else 1."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", int(os.environ.get("CONVPOOL_PORT", "8000")), timeout=MAX_WAIT_SECONDS
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
