"""Content codings: what the standard library compresses is read, and what is written, it reads."""

from __future__ import annotations

import contextlib
import gzip
import random
import sys
import zlib
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.http import compression
from service.http.compression import (
    CODINGS,
    MAX_STREAMS,
    MAX_WINDOW,
    MEMORY,
    MIN_COMPRESSED_BYTES,
    STEP_IN,
    STEP_OUT,
    compressed,
    decompressed,
    request_coding,
    response_coding,
)
from service.problems import TooLarge, UnreadablePayload, UnsupportedMediaType

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def raw_deflate(data: bytes, level: int = 6) -> bytes:
    compressor = zlib.compressobj(level, wbits=-15)
    return compressor.compress(data) + compressor.flush()


def with_checksum(data: bytes) -> bytes:
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})


def skippable(data: bytes) -> bytes:
    return b"\x57\x2a\x4d\x18" + len(data).to_bytes(4, "little") + data


COMPRESSORS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "gzip, stored": ("gzip", lambda data: gzip.compress(data, 0)),
    "zlib": ("deflate", zlib.compress),
    "zlib, small window": ("deflate", lambda data: zlib.compress(data, 6, 9)),
    "raw": ("deflate", raw_deflate),
    "raw, stored": ("deflate", lambda data: raw_deflate(data, 0)),
    "zstd": ("zstd", zstd.compress),
    "zstd, checksum": ("zstd", with_checksum),
    "zstd, level 19": ("zstd", lambda data: zstd.compress(data, 19)),
}
ANY_COMPRESSOR = pytest.mark.parametrize(("coding", "compress"), COMPRESSORS.values(), ids=COMPRESSORS)

COMPRESSOR = st.sampled_from(list(COMPRESSORS))
PLACE = st.integers(0, 2**16)
DATA = st.binary(max_size=300) | st.builds(
    lambda part, count: part * count, st.binary(max_size=20), st.integers(0, 500)
)

TEXT = b"[[0.5,-1.25],[3.0,4.75]]" * 40


def free(_: int) -> None:
    """A ticket to which anything may be charged."""


def read(body: bytes, coding: str, limit: int = 10**6) -> bytearray:
    return decompressed(body, coding, limit, free)


# ------------------------------------------------------------------------------------------------------------- reading


@settings(deadline=None)
@given(compressor=COMPRESSOR, data=DATA, step_in=st.integers(1, 50), step_out=st.integers(1, 50))
def test_what_was_compressed_is_read_in_steps_of_any_size(
    compressor: str, data: bytes, step_in: int, step_out: int
) -> None:
    coding, compress = COMPRESSORS[compressor]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compression, "STEP_IN", step_in)
        patch.setattr(compression, "STEP_OUT", step_out)
        assert read(compress(data), coding) == data


@ANY_COMPRESSOR
def test_what_takes_many_steps_is_read(coding: str, compress: Callable[[bytes], bytes]) -> None:
    data = random.Random(0).randbytes(3 * STEP_IN) + bytes(3 * STEP_OUT + 1)
    result = read(compress(data), coding, len(data))
    assert isinstance(result, bytearray)
    assert result == data


@settings(deadline=None)
@given(parts=st.lists(DATA, min_size=1, max_size=5))
def test_gzip_members_and_zstd_frames_one_after_the_other(parts: list[bytes]) -> None:
    assert read(b"".join(map(gzip.compress, parts)), "gzip") == b"".join(parts)
    assert read(b"".join(map(zstd.compress, parts)), "zstd") == b"".join(parts)
    assert read(b"".join(skippable(part) + with_checksum(part) for part in parts), "zstd") == b"".join(parts)


@settings(deadline=None)
@given(compressor=COMPRESSOR, changes=st.lists(st.tuples(PLACE, PLACE, st.binary(max_size=8)), min_size=1, max_size=3))
def test_a_damaged_body_is_a_problem_or_still_readable(compressor: str, changes: list[tuple[int, int, bytes]]) -> None:
    limit = 2000
    coding, compress = COMPRESSORS[compressor]
    body = bytearray(compress(TEXT))
    for start, length, new in changes:
        body[start % len(body) : start % len(body) + length % 8] = new + b"\0" * (start % 2)
        body = body or bytearray(1)
    with contextlib.suppress(UnreadablePayload, TooLarge):
        assert len(read(bytes(body), coding, limit)) <= limit


@settings(deadline=None)
@given(body=st.binary(max_size=64), coding=st.sampled_from(CODINGS), magic=st.booleans())
def test_any_bytes_are_a_problem_or_readable(body: bytes, coding: str, magic: bool) -> None:
    start = {"gzip": b"\x1f\x8b\x08\x00", "zstd": b"\x28\xb5\x2f\xfd", "deflate": b"\x78\x9c"}[coding] if magic else b""
    with contextlib.suppress(UnreadablePayload, TooLarge):
        read(start + body, coding)


@ANY_COMPRESSOR
def test_each_beginning_of_a_body_is_incomplete(coding: str, compress: Callable[[bytes], bytes]) -> None:
    body = compress(TEXT)
    for length in range(len(body)):
        with pytest.raises(
            UnreadablePayload, match=f"body is incomplete|body is not {coding}" if length < 4 else "body is incomplete"
        ):
            read(body[:length], coding)


@ANY_COMPRESSOR
@pytest.mark.parametrize("rest", [b"\0", b"\n", b"more than a magic number"])
def test_bytes_after_the_body_are_a_problem(coding: str, compress: Callable[[bytes], bytes], rest: bytes) -> None:
    with pytest.raises(UnreadablePayload, match=f"other bytes follow the compressed body; got {len(rest)}"):
        read(compress(TEXT) + rest, coding)


@pytest.mark.parametrize(
    ("coding", "body", "from_the_end"),
    [
        ("gzip", gzip.compress(TEXT), 8),
        ("gzip", gzip.compress(TEXT), 1),
        ("deflate", zlib.compress(TEXT), 1),
        ("zstd", with_checksum(TEXT), 1),
    ],
    ids=["gzip-checksum", "gzip-length", "deflate-checksum", "zstd-checksum"],
)
def test_a_wrong_checksum_is_named(coding: str, body: bytes, from_the_end: int) -> None:
    damaged = bytearray(body)
    damaged[-from_the_end] ^= 1
    with pytest.raises(UnreadablePayload, match="damaged; got a wrong checksum"):
        read(bytes(damaged), coding)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize(("body", "got"), [(TEXT, f"{len(TEXT)} other bytes"), (b"", "nothing")])
def test_a_body_that_is_not_compressed_at_all(coding: str, body: bytes, got: str) -> None:
    with pytest.raises(UnreadablePayload, match=f"the body is not {coding}; got {got}.*leave Content-Encoding out"):
        read(body, coding)


def test_text_sent_as_deflate_is_damaged() -> None:
    with pytest.raises(UnreadablePayload, match="damaged"):
        read(TEXT, "deflate")


# -------------------------------------------------------------------------------------------------------------- limits


@ANY_COMPRESSOR
def test_the_limit_is_that_of_the_decompressed_body(coding: str, compress: Callable[[bytes], bytes]) -> None:
    for size in (1, 1000, STEP_OUT, STEP_OUT + 1):
        body = compress(bytes(size))
        assert len(read(body, coding, size)) == size
        with pytest.raises(TooLarge, match=f"got more than {size - 1} bytes, expected at most {size - 1}"):
            read(body, coding, size - 1)


@ANY_COMPRESSOR
def test_memory_is_charged_before_it_is_taken_and_never_far_beyond_the_limit(
    coding: str, compress: Callable[[bytes], bytes]
) -> None:
    charged: list[int] = []
    size = 8 * STEP_OUT
    body = compress(bytes(size))
    decompressed(body, coding, size, charged.append)
    fixed = MEMORY[coding] + STEP_IN + STEP_OUT
    assert charged[0] == fixed
    # an array that grows reserves an eighth more than it holds
    assert fixed + size <= sum(charged) <= fixed + size + size // 8
    assert max(charged[1:]) <= STEP_OUT + STEP_OUT // 8

    charged.clear()
    limit = 3 * STEP_OUT
    with pytest.raises(TooLarge):
        decompressed(body, coding, limit, charged.append)
    assert sum(charged) <= fixed + limit + limit // 8


def test_a_charge_that_is_refused_ends_it() -> None:
    class Refused(Exception):
        pass

    calls: Iterator[int] = iter(range(3))

    def charge(_: int) -> None:
        if next(calls, None) is None:
            raise Refused

    with pytest.raises(Refused):
        decompressed(gzip.compress(bytes(20 * STEP_OUT)), "gzip", 10**9, charge)


@pytest.mark.parametrize(
    ("coding", "compress"), [("gzip", gzip.compress), ("zstd", zstd.compress)], ids=["gzip", "zstd"]
)
def test_the_number_of_members_and_frames_is_limited(coding: str, compress: Callable[[bytes], bytes]) -> None:
    empty = compress(b"")
    assert read(empty * MAX_STREAMS, coding) == b""
    with pytest.raises(UnreadablePayload, match=f"too many compressed parts .* at most {MAX_STREAMS}"):
        read(empty * (MAX_STREAMS + 1), coding)


def test_a_zstd_frame_may_ask_for_what_http_allows_and_no_more() -> None:
    def compress(window_log: int) -> bytes:
        compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: window_log})
        return compressor.compress(TEXT) + compressor.flush()  # without a size, so the window counts

    allowed = MAX_WINDOW.bit_length() - 1
    assert read(compress(allowed), "zstd") == TEXT
    with pytest.raises(TooLarge, match="without --long"):
        read(compress(allowed + 1), "zstd")


# ------------------------------------------------------------------------------------------------- codings of requests


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("identity, Identity", None),
        ("gzip", "gzip"),
        (" GZip ", "gzip"),
        ("x-gzip", "gzip"),
        ("deflate", "deflate"),
        ("zstd", "zstd"),
        ("identity, zstd,", "zstd"),
    ],
)
def test_the_coding_of_a_request(header: str | None, coding: str | None) -> None:
    assert request_coding(header) == coding


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("br", "does not know"),
        ("compress", "does not know"),
        ("gzip;q=1", "does not know"),
        ("gzip, gzip", "only once"),
        ("gzip, br", "only once"),
        ("\x00\xff" * 10**5, "does not know"),
    ],
)
def test_what_is_not_read_is_refused_with_what_is(header: str, fault: str) -> None:
    with pytest.raises(UnsupportedMediaType, match=fault) as refused:
        request_coding(header)
    assert refused.value.headers == {"Accept-Encoding": "zstd, gzip, deflate"}
    assert "zstd or gzip or deflate" in str(refused.value)
    assert len(str(refused.value)) < 200


# ----------------------------------------------------------------------------------------------------------- responses

DECOMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": zstd.decompress,
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
}


@settings(deadline=None)
@given(coding=st.sampled_from(CODINGS), buffers=st.lists(DATA, max_size=5))
def test_what_is_written_the_standard_library_reads(coding: str, buffers: list[bytes]) -> None:
    charged: list[int] = []
    pieces = compressed(buffers, coding, charged.append)
    assert DECOMPRESSORS[coding](b"".join(pieces)) == b"".join(buffers)
    assert sum(charged) == sum(map(len, pieces))
    assert all(pieces)


@pytest.mark.parametrize("coding", CODINGS)
def test_large_views_are_written(coding: str) -> None:
    numbers = memoryview(bytearray(range(256)) * (STEP_OUT // 128))
    pieces = compressed([numbers, b"end"], coding, free)
    assert DECOMPRESSORS[coding](b"".join(pieces)) == bytes(numbers) + b"end"
    assert sum(map(len, pieces)) < numbers.nbytes / 10


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("GZIP", "gzip"),
        ("deflate", "deflate"),
        ("br", None),
        ("*", "zstd"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate", "gzip"),
        ("deflate, gzip", "gzip"),
        ("deflate, gzip;q=0.5", "deflate"),
        ("gzip;q=0", None),
        ("gzip;q=0.000, deflate;q=0.001", "deflate"),
        ("*;q=0", None),
        ("*;q=0.5, gzip;q=0", "zstd"),
        ("zstd;q=0, *", "gzip"),
        ("gzip;q=0.5, identity", None),
        ("gzip;q=0.5, identity;q=0.2", "gzip"),
        ("gzip ; q=0.5", "gzip"),
        ("gzip;q=2, deflate", "deflate"),
        ("gzip;level=9", None),
        ("gz ip", None),
        (",,gzip,", "gzip"),
        ("gzip" + "," * 2000, None),
    ],
)
def test_the_coding_of_a_response(header: str | None, coding: str | None) -> None:
    assert response_coding(header, MIN_COMPRESSED_BYTES) == coding
    assert response_coding(header, MIN_COMPRESSED_BYTES - 1) is None


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("zstd;q=1.0", "zstd"),
        ("gzip, identity;q=0.5", "gzip"),
        ("gzip, *;q=0", "gzip"),
        ("gzip, *", None),
        ("gzip, deflate", None),
        ("gzip, deflate, br, zstd", None),
        ("gzip;q=0", None),
        ("br", None),
    ],
)
def test_the_coding_of_a_response_where_a_list_asks_for_nothing(header: str, coding: str | None) -> None:
    assert response_coding(header, 10**6, only_if_named_alone=True) == coding


@settings(deadline=None)
@given(st.lists(st.sampled_from(["gzip", ";q=", "0.5", ",", "*", " ", "br", "\x00", "\xff"])).map("".join))
def test_any_header_is_read(header: str) -> None:
    assert response_coding(header, 10**6) in {None, *CODINGS}
