"""Whether the service takes requests: what the health checks say."""

from __future__ import annotations

from ..problems import Busy

__all__ = ["READINESS", "Readiness"]

READINESS = "convpool.readiness"
"""Where in the state of the lifespan the server finds the application's readiness."""


class Readiness:
    """Whether the service takes requests.

    The application is not called before it has started, so it is ready from the beginning, until the server says that
    it ends.

    Attributes
    ----------
    is_ready : bool
    """

    def __init__(self) -> None:
        self.is_ready = True

    def require(self) -> None:
        """Raise Busy if the service ends."""
        if not self.is_ready:
            raise Busy.of("", "the server is about to end", got="a request", expected="requests to another server")
