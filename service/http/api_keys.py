"""API keys: a file of them, and the check that comes before everything else that a request leads to."""

from __future__ import annotations

import hashlib
import logging
import re
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from ..problems import Unauthorized
from .error_responses import error_response
from .paths import route_path

__all__ = ["OPEN_FOLDERS", "OPEN_PATHS", "ApiKeyMiddleware", "ApiKeys", "ApiKeysError", "is_open"]

OPEN_PATHS = frozenset(
    (
        *("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"),
        *("/", "/docs", "/openapi.json"),
    )
)
OPEN_FOLDERS = ("/playground/", "/docs/", "/static-offline-docs/", "/examples/")
"""What a probe calls, and what the pages / and /docs consist of and link to: it is the same for everybody, and no
request to it computes anything."""

SECONDS_BETWEEN_LOOKS = 1.0
MAX_FILE_BYTES = 2**18
"""Some thousands of keys: it is read on the event loop, in some milliseconds."""

MIN_KEY_LENGTH = 16
"""Characters below which a key is called easy to guess."""

KEY = re.compile(rb"[!-~]+")
DIGEST = re.compile(rb"sha256:([0-9A-Fa-f]{64})")
DIGEST_PREFIX = b"sha256:"

logger = logging.getLogger("convpool")


class ApiKeysError(Exception):
    """The file of the API keys cannot be used; the message says why, and never holds a key."""


class _Contents(NamedTuple):
    """The SHA-256 digests of the keys, and what changes when the file does."""

    digests: frozenset[bytes]
    version: tuple[int, ...]


class ApiKeys:
    """The keys in a file, which is read again when it changes.

    A file that cannot be read any more, or holds something else, is reported, and the keys read last stay valid.

    Parameters
    ----------
    path : str
        Of a text file with one key a line, or ``sha256:`` and the SHA-256 digest of one in hexadecimal digits. Empty
        lines, and those that begin with ``#``, mean nothing.
    clock : callable
        Returns seconds.

    Raises
    ------
    ApiKeysError
        If the file cannot be read, or holds anything but keys.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = Path(path)
        self._clock = clock
        self._contents = _read(self._path)
        self._next_look = clock() + SECONDS_BETWEEN_LOOKS
        self._fault = ""

    def __len__(self) -> int:
        return len(self._contents.digests)

    def include(self, key: bytes) -> bool:
        """Return whether a key is one of those in the file.

        Digests are looked up, not keys compared: how long that takes says nothing of any key, since nobody can choose
        a key by its digest.
        """
        self._look_again()
        return hashlib.sha256(key).digest() in self._contents.digests

    def _look_again(self) -> None:
        now = self._clock()
        if now < self._next_look:
            return
        self._next_look = now + SECONDS_BETWEEN_LOOKS
        fault = ""
        try:
            if _version(self._path) != self._contents.version:
                self._contents = _read(self._path)
                logger.info("API keys read again: %d in %s", len(self), self._path)
        except ApiKeysError as error:
            fault = str(error)
            if fault != self._fault:
                logger.error("%s; the %d API keys read before stay valid", fault, len(self))
        self._fault = fault


def _version(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()  # of the file that links lead to
    except OSError as error:
        raise _unreadable(path, error) from None
    if not stat.S_ISREG(found.st_mode):
        raise ApiKeysError(f"The file of API keys {path} is not a regular file")
    if found.st_size > MAX_FILE_BYTES:
        raise ApiKeysError(f"The file of API keys {path} is larger than {MAX_FILE_BYTES} bytes")
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read(path: Path) -> _Contents:
    version = _version(path)  # first: what is written from now on makes another one
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    except OSError as error:
        raise _unreadable(path, error) from None
    stripped = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    digests = frozenset(_digest(f"{path}, line {number}", line) for number, line in stripped if _has_key(line))
    if not digests:
        raise ApiKeysError(f"The file of API keys {path} holds no key: nobody could call the service")
    return _Contents(digests, version)


def _has_key(line: bytes) -> bool:
    return bool(line) and not line.startswith(b"#")


def _unreadable(path: Path, error: OSError) -> ApiKeysError:
    return ApiKeysError(f"The file of API keys {path} cannot be read: {error.strerror}")


def _digest(place: str, line: bytes) -> bytes:
    if not KEY.fullmatch(line):
        raise ApiKeysError(f"{place}: an API key is visible ASCII characters without spaces, and alone on its line")
    if line.startswith(DIGEST_PREFIX):
        digest = DIGEST.fullmatch(line)
        if digest is None:
            raise ApiKeysError(f"{place}: sha256: is followed by the 64 hexadecimal digits of a key's SHA-256 digest")
        return bytes.fromhex(digest[1].decode())
    if len(line) < MIN_KEY_LENGTH:
        logger.warning("%s: an API key of fewer than %d characters can be guessed", place, MIN_KEY_LENGTH)
    return hashlib.sha256(line).digest()


class ApiKeyMiddleware:
    """Lets through requests with a valid API key, and those that need none; refuses all others at once.

    Parameters
    ----------
    app : ASGI application
    keys : ApiKeys
    """

    def __init__(self, app: ASGIApp, keys: ApiKeys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and not is_open(scope["method"], route_path(scope)):
            fault = self._fault(scope["headers"])
            if fault:
                rule, hint = "this server requires an API key", "whoever runs the server hands out keys"
                expected = "a header Authorization: Bearer KEY with a valid key"
                error = Unauthorized.of("", rule, got=fault, expected=expected, hint=hint)
                await error_response(Request(scope), error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _fault(self, fields: Sequence[tuple[bytes, bytes]]) -> str:
        """Return what is wrong with a request's key in a few words, or nothing."""
        values = [value for name, value in fields if name == b"authorization"]
        if len(values) != 1:
            return "several Authorization headers" if values else "no Authorization header"
        scheme, _, key = values[0].partition(b" ")
        if scheme.lower() != b"bearer":
            return "another form of Authorization header"
        return "" if self._keys.include(key.strip(b" ")) else "a key that is not valid"


def is_open(method: str, path: str) -> bool:
    """Return whether a request needs no API key, even if others do.

    Parameters
    ----------
    method : str
    path : str
        Without the prefix that a proxy puts in front of it.
    """
    return method in ("GET", "HEAD") and (path in OPEN_PATHS or path.startswith(OPEN_FOLDERS))
