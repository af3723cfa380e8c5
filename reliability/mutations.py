"""Requests with something changed in them: drawn from a seed, so that each can be made again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.service.test_fuzz import DICTIONARY

from .wire import head

__all__ = ["Mutated", "documents", "mutated"]

HTTP_WORDS = (
    *(
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\0",
        b": ",
        b"HTTP/1.1",
        b"HTTP/2.0",
        b"POST /",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    *(b"Content-Length: 0\r\n", b"Content-Length: 99999999999\r\n", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    *(b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"Upgrade: h2c\r\n", b"Content-Encoding: gzip\r\n"),
    *(
        b"Content-Encoding: zstd\r\n",
        b"Accept: application/x-npy\r\n",
        b"Accept-Encoding: gzip;q=0\r\n",
        b"%00",
        b"%ff",
    ),
    *(b"?stride=", b"&padding=[[0,1]]", b"charset=utf-16", b"boundary=", b"Inference-Header-Content-Length: 7\r\n"),
)
VALUES = (b"-1", b"0", b"[]", b"[[", b"1e9", b"2147483648", b"null", b"same", b"%5B1%2C2%5D", b"nan", b"true", b"\xff")
NAMES = (
    *(b"stride", b"padding", b"dilation", b"groups", b"mode", b"kernel_size", b"ceil_mode", b"output_size", b"wrt"),
    *(b"framework", b"data_format", b"return_indices", b"norm_type", b"ties", b"dtype", b"algorithm", b"input", b"x"),
)


@dataclass(frozen=True)
class Mutated:
    """A request, as bytes.

    Parameters
    ----------
    content : bytes
    is_framed : bool
        Whether its head still says truly how long its body is, so that the connection may be used again.
    is_v2 : bool
        Whether errors are those of the Open Inference Protocol.
    """

    content: bytes
    is_framed: bool
    is_v2: bool


def mutated(seeds: Sequence[bytes], seed: int, index: int) -> Mutated:
    """Return the request of a number.

    Parameters
    ----------
    seeds : sequence of bytes
        Sound requests, with Content-Length.
    seed, index : int
    """
    draw = random.Random(f"{seed}/{index}")
    opening, _, body = draw.choice(seeds).partition(b"\r\n\r\n")
    is_v2 = opening.split(b" ", 2)[1].startswith(b"/v2")
    if draw.random() < 0.3:
        return Mutated(
            _changed(draw, opening + b"\r\n\r\n" + body, (*HTTP_WORDS, *DICTIONARY), len(opening)), False, is_v2
        )
    line, *fields = opening.split(b"\r\n")
    method, target, version = line.split(b" ")
    if draw.random() < 0.3:
        pairs = [b"%b=%b" % (draw.choice(NAMES), draw.choice(VALUES)) for _ in range(draw.randint(1, 3))]
        target += (b"&" if b"?" in target else b"?") + b"&".join(pairs)
    if draw.random() < 0.6:
        body = _changed(draw, body, DICTIONARY, len(body))
    if draw.random() < 0.1:
        other = draw.choice(seeds).partition(b"\r\n\r\n")
        body = other[2]
    fields = [field for field in fields if not field.lower().startswith(b"content-length")]
    framing = [b"Content-Length: %d" % len(body)] if body or method == b"POST" else []
    if body and draw.random() < 0.2:
        framing = [b"Transfer-Encoding: chunked"]
        body = _chunked(draw, body)
    content = b"\r\n".join([b" ".join((method, target, version)), *fields, *framing, b"", body])
    return Mutated(content, True, is_v2)


def documents(targets: Sequence[str]) -> list[bytes]:
    """Return requests that have no body."""
    return [head(target, method="GET") for target in targets]


def _changed(draw: random.Random, content: bytes, words: Sequence[bytes], end: int) -> bytes:
    """Flip, cut, put in, replace, repeat or end somewhere before ``end``, up to four times."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        start = draw.randint(0, min(end, len(changed)))
        stop = min(len(changed), start + draw.randint(0, 40))
        word = draw.choice(words) if draw.random() < 0.7 else draw.randbytes(draw.randint(0, 8))
        match draw.randrange(6):
            case 0 if start < len(changed):
                changed[start] ^= draw.randint(1, 255)
            case 1:
                del changed[start:stop]
            case 2:
                changed[start:start] = word
            case 3:
                changed[start:stop] = word
            case 4:
                changed[start:start] = changed[start:stop]
            case _:
                if draw.random() < 0.2:
                    del changed[start:]
    return bytes(changed)


def _chunked(draw: random.Random, body: bytes) -> bytes:
    pieces: list[bytes] = []
    start = 0
    while start < len(body):
        size = min(len(body) - start, draw.choice((1, 7, 100, 1000, 65536)) if len(pieces) < 50 else len(body))
        pieces.append(b"%x\r\n%b\r\n" % (size, body[start : start + size]))
        start += size
    return b"".join([*pieces, b"0\r\n\r\n"])
