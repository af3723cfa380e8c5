"""Content codings (RFC 9110, section 8.4): compressed requests decoded in bounded steps, and responses compressed.

Decoding and compressing compute: they belong on a compute thread, not on the event loop.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from ..codecs import Buffer
from ..problems import Finding, RequestProblem, TooLarge, UnreadablePayload, UnsupportedMediaType

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = [
    "CODINGS",
    "MIN_COMPRESSED_BYTES",
    "VARY",
    "compressed",
    "decompressed",
    "request_coding",
    "response_coding",
]

CODINGS = ("zstd", "gzip", "deflate")
"""The content codings that are read and written, the fastest first."""

ALIASES: Mapping[str, str] = MappingProxyType({"x-gzip": "gzip"})
"""Other names of codings, which a recipient must know (RFC 9110, 8.4.1.3)."""

VARY: Mapping[str, str] = MappingProxyType({"Vary": "Accept-Encoding"})
"""Header of every response that would be compressed for another Accept-Encoding."""

MIN_COMPRESSED_BYTES = 2**12
"""Size from which a response is worth compressing: a smaller one fits in a few packets either way."""

MEMBER = re.compile(r"(?P<name>[a-z0-9!#$%&'*+.^_`|~-]+)(?:[ \t]*;[ \t]*q=(?P<q>0(?:\.\d{0,3})?|1(?:\.0{0,3})?))?")
"""A member of Accept-Encoding, in lower case: a token and a weight (RFC 9110, 12.4.2)."""

MAX_HEADER = 1024
"""Maximum length of an Accept-Encoding, in characters; a longer one is not looked at."""

STEP_IN, STEP_OUT = 2**16, 2**18
"""Bytes that a step takes and makes at most. What decompresses to far more than it should ends one step too late."""

MAX_STREAMS = 2**12
"""Maximum number of gzip members or zstd frames in a body. Tools that compress block by block write one for each 64 KiB
of data or so; empty ones take long for their size."""

MAX_WINDOW = 2**23
"""Memory that a zstd frame may ask for, in bytes (RFC 9659)."""

MEMORY: Mapping[str, int] = MappingProxyType({"gzip": 2**16, "deflate": 2**16, "zstd": MAX_WINDOW + 2**18})
"""Memory that a decompressor takes at most, in bytes: its window, tables and buffers."""

GZIP_WBITS, ZLIB_WBITS, RAW_WBITS = 31, 15, -15
GZIP_MAGIC, ZSTD_MAGIC, ZSTD_SKIPPABLE = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18"

ZLIB_LEVEL, ZSTD_LEVEL = 1, 1
"""Random float32 numbers as text shrink to 48 % and 43 %; with the default levels to 43 % and 46 %, in three to five
times the time."""


class Decompressor(Protocol):
    """Decompresses one stream, as the standard library's classes for bz2, lzma and zstd do."""

    @property
    def eof(self) -> bool:
        """Whether the end of the stream was reached."""

    @property
    def needs_input(self) -> bool:
        """Whether the input so far is used up."""

    @property
    def unused_data(self) -> bytes:
        """What was handed in beyond the stream's end."""

    def decompress(self, data: Buffer, max_length: int) -> bytes:
        """Return at most so many bytes; without data while more can be made from the input so far."""


class Inflater:
    """zlib's decompressor, with the interface of the others.

    Parameters
    ----------
    wbits : int
        The container: gzip, zlib or none.
    """

    def __init__(self, wbits: int) -> None:
        self._zlib = zlib.decompressobj(wbits)

    @property
    def eof(self) -> bool:
        """Whether the end of the stream was reached."""
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        """Whether the input so far is used up."""
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        """What was handed in beyond the stream's end."""
        return self._zlib.unused_data

    def decompress(self, data: Buffer, max_length: int) -> bytes:
        """Return at most so many bytes; without data while more can be made from the input so far."""
        return self._zlib.decompress(self._zlib.unconsumed_tail or data, max_length)


def request_coding(content_encoding: str | None) -> str | None:
    """Return the coding of a request's body; None if it is not compressed.

    Parameters
    ----------
    content_encoding : str, optional
        The header; several lines of it joined with commas.

    Raises
    ------
    UnsupportedMediaType
        If the coding is unknown, or there are several. Its header Accept-Encoding lists what is read.
    """
    names = [name.strip().lower() for name in (content_encoding or "").split(",")]
    names = [ALIASES.get(name, name) for name in names if name not in ("", "identity")]
    if not names:
        return None
    if len(names) == 1 and names[0] in CODINGS:
        return names[0]
    fault = (
        "this server does not know the Content-Encoding" if len(names) == 1 else "a body may be compressed only once"
    )
    got = "another one" if len(names) == 1 else "several codings"
    expected = f"Content-Encoding: {' or '.join(CODINGS)}, or none"
    finding = Finding.of("", fault, got=got, expected=expected)
    raise UnsupportedMediaType(finding, headers={"Accept-Encoding": ", ".join(CODINGS)})


def decompressed(body: Buffer, coding: str, limit: int, charge: Callable[[int], None]) -> bytearray:
    """Return what a body decompresses to: one stream, or several gzip members or zstd frames one after the other.

    Parameters
    ----------
    body : bytes-like
    coding : str
        One of CODINGS. Deflate may lack zlib's header and checksum, as some clients send it.
    limit : int
        Maximum size of the result, in bytes; decompressing stops there.
    charge : callable
        Called with the bytes of memory that are about to be taken.

    Raises
    ------
    UnreadablePayload
        If the body is not what the coding says: other bytes, damaged, incomplete, or followed by others.
    TooLarge
        If it decompresses to more than the limit, or a zstd frame asks for more memory than is allowed.
    """
    charge(MEMORY[coding] + STEP_IN + STEP_OUT)
    rest, result = memoryview(body), bytearray()
    for streams in range(MAX_STREAMS):
        stream = _decompressor(bytes(rest[:4]), coding)
        if stream is None:
            got = f"{len(rest)} other bytes" if rest else "nothing"
            if streams:
                raise _unreadable("other bytes follow the compressed body", got, "nothing after it")
            fault, hint = f"the body is not {coding}", "compress it, or leave Content-Encoding out"
            raise _unreadable(fault, got, f"{coding} data, as Content-Encoding says", hint)
        rest = rest[_decompress(stream, rest, coding, result, limit, charge) :]
        if not rest:
            return result
        if coding == "deflate":
            raise _unreadable("other bytes follow the compressed body", f"{len(rest)} bytes", "nothing after it")
    fault = "the body has too many compressed parts one after the other"
    raise _unreadable(fault, "more", f"at most {MAX_STREAMS}", "compress the body as a whole")


def _decompressor(start: bytes, coding: str) -> Decompressor | None:
    """Return a decompressor for a stream that starts with these bytes; None if no such stream does."""
    if coding == "deflate":
        # zlib's header names the method in its first byte, and is a multiple of 31 (RFC 1950); raw data never begins so
        has_header = len(start) > 1 and start[0] & 0x0F == 8 and int.from_bytes(start[:2], "big") % 31 == 0
        return Inflater(ZLIB_WBITS if has_header else RAW_WBITS)
    if coding == "gzip":
        return Inflater(GZIP_WBITS) if start[:2] == GZIP_MAGIC else None
    is_skippable = start[1:] == ZSTD_SKIPPABLE and start[0] >> 4 == 5
    if start != ZSTD_MAGIC and not is_skippable:
        return None
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: MAX_WINDOW.bit_length() - 1})


def _decompress(
    stream: Decompressor,
    data: memoryview,
    coding: str,
    result: bytearray,
    limit: int,
    charge: Callable[[int], None],
) -> int:
    """Append what the stream at the start of the data decompresses to; return how many bytes the stream has."""
    taken = 0
    while not stream.eof:
        is_exhausted = stream.needs_input and taken == len(data)
        part: Buffer = data[taken : taken + STEP_IN] if stream.needs_input else b""
        taken += len(part)
        try:
            piece = stream.decompress(part, min(STEP_OUT, limit - len(result) + 1))
        except (zlib.error, zstd.ZstdError) as error:
            raise _damaged(coding, str(error)) from None
        if len(result) + len(piece) > limit:
            fault = "the body decompresses to more than this server allows"
            raise TooLarge.of("", fault, got=f"more than {limit} bytes", expected=f"at most {limit} bytes")
        charge(len(piece) + len(piece) // 8)  # what grows reserves more than it holds
        result += piece
        if is_exhausted and not piece and not stream.eof:
            fault = "the compressed body is incomplete"
            raise _unreadable(fault, f"{len(data)} bytes without an end", "all of its bytes")
    return taken - len(stream.unused_data)


def _damaged(coding: str, error: str) -> RequestProblem:
    if "too much memory" in error:
        fault = "a zstd frame may not ask for more memory than HTTP allows (RFC 9659)"
        hint = "compress without --long and --ultra"
        return TooLarge.of("", fault, got="more", expected=f"a window of at most {MAX_WINDOW} bytes", hint=hint)
    is_checksum = any(words in error for words in ("checksum", "incorrect data check", "incorrect length check"))
    got = "a wrong checksum" if is_checksum else f"bytes that are not {coding}"
    return _unreadable("the compressed body is damaged", got, "the bytes that the compressor wrote")


def _unreadable(fault: str, got: str, expected: str, hint: str = "") -> UnreadablePayload:
    return UnreadablePayload.of("", fault, got=got, expected=expected, hint=hint)


def response_coding(accept_encoding: str | None, size: int, *, only_if_named_alone: bool = False) -> str | None:
    """Return the coding that a response should have; None if it is better sent as it is.

    Parameters
    ----------
    accept_encoding : str, optional
        The header; several lines of it joined with commas.
    size : int
        Size of the response, in bytes.
    only_if_named_alone : bool
        Whether the header must name this coding and no other, as where a program asks for it. Browsers and most HTTP
        libraries list several with every request, whatever it is for.
    """
    if size < MIN_COMPRESSED_BYTES or not accept_encoding or len(accept_encoding) > MAX_HEADER:
        return None
    qualities = dict(_qualities(accept_encoding))
    if only_if_named_alone and sum(quality > 0 for coding, quality in qualities.items() if coding != "identity") != 1:
        return None
    accepted = {coding: qualities.get(coding, qualities.get("*", 0.0)) for coding in CODINGS}
    best = max(CODINGS, key=lambda coding: accepted[coding])  # the first one among equals
    return best if accepted[best] > 0 and accepted[best] >= qualities.get("identity", 0.0) else None


def _qualities(accept_encoding: str) -> Iterator[tuple[str, float]]:
    """Yield each coding of a header, in lower case, and its weight; one that cannot be read is left out."""
    for member in accept_encoding.lower().split(","):
        match = MEMBER.fullmatch(member.strip())
        if match:
            yield ALIASES.get(match["name"], match["name"]), float(match["q"] or 1)


def compressed(buffers: Sequence[Buffer], coding: str, charge: Callable[[int], None]) -> list[bytes]:
    """Return buffers, compressed as one stream.

    Parameters
    ----------
    buffers : sequence of bytes-like
    coding : str
        One of CODINGS.
    charge : callable
        Called with the bytes of memory that are taken.
    """
    compressor = _compressor(coding)
    pieces: list[bytes] = []

    def keep(piece: bytes) -> None:
        if piece:
            charge(len(piece))
            pieces.append(piece)

    for buffer in buffers:
        view = memoryview(buffer)
        for start in range(0, len(view), STEP_OUT):
            keep(compressor.compress(view[start : start + STEP_OUT]))
    keep(compressor.flush())
    return pieces


class Compressor(Protocol):
    """Compresses one stream."""

    def compress(self, data: memoryview, /) -> bytes:
        """Return what can be written so far."""

    def flush(self) -> bytes:
        """Return the rest."""


def _compressor(coding: str) -> Compressor:
    if coding == "zstd":
        return zstd.ZstdCompressor(ZSTD_LEVEL)
    return zlib.compressobj(ZLIB_LEVEL, wbits=GZIP_WBITS if coding == "gzip" else ZLIB_WBITS)
