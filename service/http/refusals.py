"""What is refused before it is a request: bytes that are not HTTP/1.1, and connections that there is no place for."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from http import HTTPStatus

from ..problems import RETRY_AFTER_SECONDS, Finding
from .error_responses import PROBLEM_MEDIA_TYPE, Kind, problem_content

__all__ = [
    "ALL_BUSY",
    "BREAKS_A_RULE",
    "CUT_SHORT",
    "LONG_HEAD",
    "LONG_LINES",
    "MAX_HEAD_BYTES",
    "NO_HOST",
    "NO_PROXY",
    "OLD_CODING",
    "OTHER_CODING",
    "OTHER_VERSION",
    "Refusal",
    "in_origin_form",
    "is_host",
    "late_head",
    "malformed",
]

MAX_HEAD_BYTES = 2**14

ABSOLUTE_FORM = re.compile(rb"https?://(?P<authority>[^/?#]*)(?P<origin_form>.*)", re.IGNORECASE)

HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:%\[\]-]*")

Words = tuple[str, str, str]
"""A rule, what came, and what was expected."""

REQUEST_LINE = "a request begins with a line of method, target and version"
A_REQUEST_LINE = "a line such as POST /conv/forward HTTP/1.1"
LENGTH = "Content-Length is the number of bytes in the body"
CODINGS = "this server knows one transfer coding, chunked"
A_CODING = "Transfer-Encoding: chunked, or a Content-Length"
CHUNK = "each chunk of a body begins with a line of its size, and ends with a line break"
A_CHUNK = "the number of the chunk's bytes in hexadecimal digits, a line break, and so many bytes"
FIELD = "each header field is a line of a name, a colon and a value"
FRAMING = "a body has either a Content-Length or a Transfer-Encoding"

RULES: dict[str, Words] = {
    "Invalid method": (REQUEST_LINE, "another method", A_REQUEST_LINE),
    "Invalid char in url": (REQUEST_LINE, "a target with other characters than a URL has", A_REQUEST_LINE),
    "Unexpected char in url": (REQUEST_LINE, "a target of another form", A_REQUEST_LINE),
    "Invalid characters in url": (REQUEST_LINE, "a target with other characters than a URL has", A_REQUEST_LINE),
    "Expected HTTP/": (REQUEST_LINE, "another line", A_REQUEST_LINE),
    "Invalid m": (REQUEST_LINE, "another version", A_REQUEST_LINE),  # major or minor version
    "Invalid header": (FIELD, "another line", "a line such as Content-Length: 12, without a space before the colon"),
    "Unexpected space after start line": (
        FIELD,
        "a line that begins with a space",
        "a line such as Content-Length: 12",
    ),
    "Unexpected whitespace after header value": (FIELD, "a value on several lines", "each field on one line"),
    "Invalid character in Content-Length": (LENGTH, "something else", "a number, without a sign"),
    "Content-Length overflow": (LENGTH, "a larger number", "a number of at most 19 digits"),
    "Duplicate Content-Length": (LENGTH, "several Content-Length fields", "one number"),
    "Transfer-Encoding can't be present with Content-Length": (FRAMING, "both", "one of them"),
    "Content-Length can't be present with Transfer-Encoding": (FRAMING, "both", "one of them"),
    "Invalid character in chunk": (CHUNK, "another line", A_CHUNK),
    "Chunk size overflow": (CHUNK, "a larger number", A_CHUNK),
    "Expected LF after chunk": (CHUNK, "other bytes", A_CHUNK),
}
"""What the parser's words for an error begin with, and what is said in their place."""

BREAKS_A_RULE = ("a request keeps to the rules of HTTP/1.1", "one that does not", "a request as RFC 9112 has it")


class Refusal(Exception):
    """What a client is told in place of a response, before its connection is closed."""

    def __init__(self, status: HTTPStatus, words: Words, title: str = "", retry_after: int = 0) -> None:
        super().__init__(words[0])
        self.kind = Kind(status, title or status.phrase)
        self.finding = Finding.of("", words[0], got=words[1], expected=words[2])
        self._retry_after = retry_after

    def response(self, default_headers: Iterable[tuple[bytes, bytes]]) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Return the header fields, after the server's own, and the body."""
        document = problem_content(self.kind, [self.finding])
        headers = [
            *default_headers,
            (b"content-type", PROBLEM_MEDIA_TYPE.encode()),
            (b"content-length", b"%d" % len(document)),
            (b"connection", b"close"),
        ]
        if self._retry_after:
            headers.append((b"retry-after", b"%d" % self._retry_after))
        return headers, document


OTHER_VERSION = functools.partial(
    Refusal,
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
    ("this server speaks HTTP/1.1", "another version of HTTP", "HTTP/1.1 or HTTP/1.0"),
)
OTHER_CODING = functools.partial(Refusal, HTTPStatus.NOT_IMPLEMENTED, (CODINGS, "another one", A_CODING))
OLD_CODING = functools.partial(
    Refusal,
    HTTPStatus.BAD_REQUEST,
    ("HTTP/1.0 has no transfer codings", "a Transfer-Encoding", "a Content-Length, or a request of HTTP/1.1"),
)
NO_HOST = functools.partial(
    Refusal,
    HTTPStatus.BAD_REQUEST,
    ("the field Host is a name or address, with or without a port", "another value", "a host such as 127.0.0.1:8000"),
)
NO_PROXY = functools.partial(
    Refusal, HTTPStatus.NOT_IMPLEMENTED, ("this server is no proxy", "the method CONNECT", A_REQUEST_LINE)
)
LONG_HEAD = functools.partial(
    Refusal,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    (
        "the request line and the header fields have a limited size",
        "more bytes",
        f"at most {MAX_HEAD_BYTES} bytes together",
    ),
)
LONG_LINES = functools.partial(
    Refusal,
    HTTPStatus.BAD_REQUEST,
    (
        "the lines between the chunks of a body, and the fields after them, have a limited size",
        "more bytes",
        f"at most {MAX_HEAD_BYTES} bytes together, beyond what the sizes of the chunks take",
    ),
)
CUT_SHORT = functools.partial(
    Refusal,
    HTTPStatus.BAD_REQUEST,
    ("the connection ended within a request", "a part of it", "the whole head and body before the connection's end"),
)
ALL_BUSY = functools.partial(
    Refusal,
    HTTPStatus.SERVICE_UNAVAILABLE,
    (
        "this server takes a limited number of connections, and a request is under way on each",
        "one more connection",
        "a connection later",
    ),
    "Busy",
    RETRY_AFTER_SECONDS,
)


def late_head(seconds: float) -> Refusal:
    """Return the refusal of a head that is not complete in time."""
    words = ("a request's head did not arrive in time", "a part of it", f"the whole head within {seconds:g} s")
    return Refusal(HTTPStatus.REQUEST_TIMEOUT, words, "Header timeout")


def malformed(reason: str) -> Refusal:
    """Return the refusal that the parser has a reason for."""
    if reason.startswith("Pause on PRI"):
        return OTHER_VERSION()
    if "`Transfer-Encoding`" in reason:
        return OTHER_CODING()
    words = next((words for start, words in RULES.items() if reason.startswith(start)), BREAKS_A_RULE)
    return Refusal(HTTPStatus.BAD_REQUEST, words)


@functools.lru_cache(1024)
def is_host(value: bytes) -> bool:
    """Return whether a host may be written so (RFC 9112, 3.2)."""
    return HOST.fullmatch(value) is not None


def in_origin_form(target: bytes) -> tuple[bytes, bytes | None]:
    """Return a request's target as a path and a query, and the host if the target names one.

    A client that takes the server for its proxy sends the whole URL, and a server must read that; the host in it comes
    before the Host field (RFC 9112, 3.2.2). A target of another form leads nowhere, and so does the path made of it.

    Raises
    ------
    Refusal
        If a URL names no host, or a user.
    """
    if target.startswith(b"/"):
        return target, None
    absolute = ABSOLUTE_FORM.fullmatch(target)
    if absolute is None:
        return b"/" + target, None
    authority, origin_form = absolute["authority"], absolute["origin_form"]
    # either must be refused (RFC 9110, 4.2.1 and 4.2.4)
    if not authority or b"@" in authority:
        words = (
            "a URL names a host, and no user",
            "no host" if not authority else "a user before the host",
            "a URL such as http://127.0.0.1:8000/health/ready",
        )
        raise Refusal(HTTPStatus.BAD_REQUEST, words)
    return origin_form if origin_form.startswith(b"/") else b"/" + origin_form, authority
