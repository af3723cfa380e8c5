"""Constant documents, in the coding that a client reads."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest
from starlette.requests import Request

from service.http.documents import Document

CONTENT = b'{"operations":[' + b",".join(b'{"name":"conv_%d"}' % index for index in range(1000)) + b"]}\n"


def request(*accept_encoding: bytes) -> Request:
    headers = [(b"accept-encoding", value) for value in accept_encoding]
    return Request({"type": "http", "headers": headers})


@pytest.mark.parametrize(
    ("accept_encoding", "coding", "decompress"),
    [
        ((b"gzip",), "gzip", gzip.decompress),
        ((b"br, gzip, deflate",), "gzip", gzip.decompress),
        ((b"br", b"deflate"), "deflate", zlib.decompress),
        ((b"br",), None, bytes),
        ((), None, bytes),
    ],
)
def test_a_document_is_sent_as_a_client_reads_it(
    accept_encoding: tuple[bytes, ...], coding: str | None, decompress: Callable[[bytes], bytes]
) -> None:
    response = Document(CONTENT, "application/json").response(request(*accept_encoding))
    assert response.headers["vary"] == "Accept-Encoding"
    assert response.headers.get("content-encoding") == coding
    assert response.headers["content-type"] == "application/json"
    assert int(response.headers["content-length"]) == len(response.body)
    assert decompress(bytes(response.body)) == CONTENT
    assert (len(response.body) < len(CONTENT) / 4) == (coding is not None)


def test_a_document_s_own_headers_are_in_every_response() -> None:
    document = Document(CONTENT, "text/html", {"Referrer-Policy": "no-referrer"})
    whole = document.response(request())
    known = Request({"type": "http", "headers": [(b"if-none-match", whole.headers["etag"].encode())]})
    for response, status in ((whole, 200), (document.response(known), 304)):
        assert (response.status_code, response.headers["referrer-policy"]) == (status, "no-referrer")


def test_a_small_document_is_sent_as_it_is() -> None:
    response = Document(b"{}", "application/json").response(request(b"gzip"))
    assert response.body == b"{}"
    assert "content-encoding" not in response.headers
