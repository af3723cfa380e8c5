"""Request ids: those that clients send, or new ones."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Iterable

__all__ = ["REQUEST_ID", "request_id"]

REQUEST_ID = "convpool.request_id"
"""Where in a scope's state the id of the request is, as bytes."""

SAFE = re.compile(rb"[A-Za-z0-9._~:/+=@-]{1,128}")
"""What is taken from a client: it is repeated in the log and in the response."""

_start, _numbers = secrets.token_hex(6).encode(), itertools.count(1)


def request_id(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the id of a request: its ``X-Request-ID`` if that is short and plain, else a new one.

    A new id is the process's random part and a number: random numbers for each request would take longer.

    Parameters
    ----------
    fields : iterable of pairs of bytes
        The header, with names in lower case.
    """
    for name, value in fields:
        if name == b"x-request-id" and SAFE.fullmatch(value):
            return value
    return b"%b-%x" % (_start, next(_numbers))
