"""What is not a plain HTTP/1.1 request to a path: targets in absolute form, and what is not HTTP at all."""

from __future__ import annotations

import contextlib
import socket

import httpx
import orjson
import pytest

from service.http.refusals import BREAKS_A_RULE, MAX_HEAD_BYTES, in_origin_form, malformed
from tests.service.test_serving import (
    ANSWER,
    BODY,
    Raw,
    assert_answer,
    assert_problem,
    connected,
    received,
)

JSON = b"Content-Type: application/json\r\n"
MARKER = b"s3cr3t"
"""Stands wherever a client's bytes might be repeated."""
LENGTH = f"Content-Length: {len(BODY)}\r\n".encode()
POST = b"POST /conv/forward HTTP/1.1\r\nHost: h\r\n" + JSON
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def sent(base_url: str, request: bytes) -> Raw:
    with connected(base_url) as connection:
        connection.sendall(request)
        return received(connection)


# -------------------------------------------------------------------------------------------------------- absolute form


@pytest.mark.parametrize(
    ("target", "origin_form"),
    [
        ("http://convpool.example/health/ready", "/health/ready"),
        ("HTTP://convpool.example/health/ready", "/health/ready"),
        ("https://convpool.example/health/ready", "/health/ready"),
        ("hTTpS://convpool.example:8443/health/ready", "/health/ready"),
        ("http://[::1]:8000/health/ready", "/health/ready"),
        ("http://h/%7Ea%2Fb/c?x=%2F&y", "/%7Ea%2Fb/c?x=%2F&y"),
        ("http://h", "/"),
        ("http://h/", "/"),
        ("http://h?x=1", "/?x=1"),
        ("http://h:80?x=http://other/", "/?x=http://other/"),
        ("http://h//evil/path", "//evil/path"),
        ("http://h/http://other/", "/http://other/"),
    ],
)
def test_an_absolute_form_is_the_path_and_the_query_of_its_host(target: str, origin_form: str) -> None:
    authority = target.split("//")[1].partition("/")[0].partition("?")[0]
    assert in_origin_form(target.encode()) == (origin_form.encode(), authority.encode())


@pytest.mark.parametrize("target", ["/", "/health/ready?x=1", "//evil/path", "/http://h/"])
def test_an_origin_form_is_left_as_it_is(target: str) -> None:
    assert in_origin_form(target.encode()) == (target.encode(), None)


@pytest.mark.parametrize(
    ("target", "status"), [("*", 404), ("ftp://h/", 404), ("xhttp://h/", 404), ("http:/h", 400), ("h:443", 400)]
)
def test_every_other_target_leads_nowhere(server_url: str, target: str, status: int) -> None:
    assert in_origin_form(target.encode()) == (f"/{target}".encode(), None)
    assert_problem(sent(server_url, f"OPTIONS {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode()), status)


@pytest.mark.parametrize("target", ["http:///health/ready", "https://", "http://user@h/", "http://user:password@h/"])
def test_a_url_without_a_host_or_with_a_user_is_refused(server_url: str, target: str) -> None:
    response = sent(server_url, f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    assert_problem(response, 400)
    assert b"password" not in response.content


@pytest.mark.parametrize("scheme", [b"http", b"HTTPS"])
def test_requests_in_absolute_form_are_answered(server_url: str, scheme: bytes) -> None:
    target = scheme + b"://convpool.example:99"
    ready = sent(server_url, b"GET " + target + b"/health/ready HTTP/1.1\r\nHost: h\r\n\r\n")
    assert orjson.loads(ready.content) == {"status": "ready"}
    head = b" HTTP/1.1\r\nHost: h\r\n" + JSON + LENGTH
    assert_answer(sent(server_url, b"POST " + target + b"/conv/forward?stride=%31" + head + b"\r\n" + BODY))
    refused = sent(server_url, b"POST " + target + b"/conv/forward?stride=0" + head + b"\r\n" + BODY)
    assert_problem(refused, 422)
    assert orjson.loads(refused.content)["errors"][0]["pointer"] == "/stride"
    expecting = head + b"Expect: 100-continue\r\n\r\n"
    with connected(server_url) as connection:
        connection.sendall(b"POST " + target + b"/conv/forward" + expecting)
        assert connection.recv(1024).startswith(b"HTTP/1.1 100 ")
        connection.sendall(BODY)
        assert_answer(received(connection))


def test_both_forms_lead_to_the_same_response(server_url: str) -> None:
    for path in (b"/ops", b"/", b"//ops", b"/health/%72eady", b"/nothing?x", b"/%ff%00", b"/ops#x"):
        origin, absolute = (
            sent(server_url, b"GET " + host + path + b" HTTP/1.1\r\nHost: h\r\nX-Request-ID: one\r\n\r\n")
            for host in (b"", b"http://h")
        )
        assert origin.status_code == absolute.status_code, path
        assert origin.content == absolute.content
        assert origin.headers.get("location") == absolute.headers.get("location")


def test_the_host_of_an_absolute_form_comes_before_the_field(server_url: str) -> None:
    response = sent(server_url, b"GET http://convpool.example/ops/ HTTP/1.1\r\nHost: other.example\r\n\r\n")
    assert response.status_code == 307
    assert response.headers["location"] == "http://convpool.example/ops"


@pytest.mark.parametrize(("target", "status"), [(b"*", 404), (b"h:80", 400), (b"http://h", 405)])
def test_options_of_the_whole_server_is_answered(server_url: str, target: bytes, status: int) -> None:
    assert_problem(sent(server_url, b"OPTIONS " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n"), status)


# ------------------------------------------------------------------------------------------------------------ malformed

LINE = b"GET /health/ready HTTP/1.1\r\n"
MALFORMED: dict[str, tuple[int, bytes]] = {
    "no request line": (400, MARKER + b"\r\n\r\n"),
    "no version": (505, b"GET /" + MARKER + b"\r\nHost: h\r\n\r\n"),
    "a space in the target": (400, b"GET /a " + MARKER + b" HTTP/1.1\r\nHost: h\r\n\r\n"),
    "a target that is not ASCII": (400, b"GET /\xff" + MARKER + b" HTTP/1.1\r\nHost: h\r\n\r\n"),
    "a bad method": (400, b"G(" + MARKER + b" / HTTP/1.1\r\nHost: h\r\n\r\n"),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01" + MARKER),
    "a bad version": (400, b"GET / HTTP/" + MARKER + b"\r\nHost: h\r\n\r\n"),
    "no host": (400, LINE + b"\r\n"),
    "two hosts": (400, LINE + b"Host: h\r\nHost: " + MARKER + b"\r\n\r\n"),
    "a header without a colon": (400, LINE + b"Host: h\r\n" + MARKER + b"\r\n\r\n"),
    "a space before the colon": (400, LINE + b"Host: h\r\n" + MARKER + b" : x\r\n\r\n"),
    "a null in a header": (400, LINE + b"Host: h\r\nX: \x00" + MARKER + b"\r\n\r\n"),
    "a header that goes on first": (400, LINE + b" " + MARKER + b": x\r\nHost: h\r\n\r\n"),
    "a signed length": (400, POST + b"Content-Length: +2\r\n\r\n{}"),
    "a negative length": (400, POST + b"Content-Length: -2\r\n\r\n{}"),
    "a length that is not a number": (400, POST + b"Content-Length: " + MARKER + b"\r\n\r\n{}"),
    "a length of too many digits": (400, POST + b"Content-Length: " + b"1" * 30 + b"\r\n\r\n{}"),
    "two lengths": (400, POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    "a list of lengths": (400, POST + b"Content-Length: 2, 3\r\n\r\n{}"),
    "a length and a coding": (400, POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n" + MARKER),
    "a value on two lines": (400, LINE + b"Host: h\r\nX: a\r\n " + MARKER + b"\r\n\r\n"),
    "a chunk of too many digits": (400, CHUNKED + b"1" * 20 + b"\r\n" + MARKER),
    "16,000 headers": (431, LINE + b"Host: h\r\n" + b"X: y\r\n" * 16_000 + b"\r\n"),
    "a tunnel": (501, b"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n" + MARKER),
    "a bad chunk size": (400, CHUNKED + MARKER + b"\r\n{}\r\n"),
    "a longer chunk than its size": (400, CHUNKED + b"2\r\n{}" + MARKER + b"\r\n"),
    "a bad trailer": (400, CHUNKED + b"0\r\n" + MARKER + b"\r\n\r\n"),
    "an endless header": (431, LINE + b"Host: h\r\nX: " + MARKER * MAX_HEAD_BYTES),
    "an endless target": (431, b"GET /" + MARKER * MAX_HEAD_BYTES),
    "endless empty lines": (431, b"\r\n" * MAX_HEAD_BYTES),
    "a header and more": (431, LINE + b"Host: h\r\n" + b"X: " + MARKER * 2**20 + b"\r\n\r\n"),
    "an unknown transfer coding": (501, POST + b"Transfer-Encoding: " + MARKER + b"\r\n\r\n{}"),
    "a compressed transfer coding": (501, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n{}"),
    "two transfer codings": (501, POST + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n{}"),
    "HTTP/2": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "HTTP/2 with a host": (505, b"GET / HTTP/2.0\r\nHost: h\r\n\r\n"),
    "HTTP/0.9": (505, b"GET / HTTP/0.9\r\nHost: h\r\n\r\n"),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("pieces", ["at once", "after a request", "bytes"])
@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_not_http_is_told_so(server_url: str, name: str, pieces: str) -> None:
    status, request = MALFORMED[name]
    with connected(server_url) as connection:
        if pieces == "after a request":
            connection.sendall(LINE + b"Host: h\r\n\r\n")
            assert orjson.loads(received(connection).content) == {"status": "ready"}
        if pieces == "bytes":
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in request[:300]:
                with contextlib.suppress(ConnectionError):  # it may be refused by then
                    connection.sendall(bytes([byte]))
        connection.sendall(request[300:] if pieces == "bytes" else request)
        response = received(connection)
        assert connection.recv(1) == b""
    assert_problem(response, status)
    assert response.headers["connection"] == "close"
    assert response.headers["date"]
    assert MARKER not in response.content
    document = orjson.loads(response.content)
    assert document["type"] == f"urn:convpool:problem:{document['title'].lower().replace(' ', '-')}"
    (error,) = document["errors"]
    assert set(error) == {"pointer", "message", "got", "expected"}
    assert error["pointer"] == ""
    assert error["got"] in error["message"]
    assert error["expected"] in error["message"]
    assert document["detail"] == error["message"]
    assert httpx.get(f"{server_url}/health/ready").status_code == 200


def test_what_the_parser_says_in_other_words_is_said_in_general() -> None:
    refused = malformed(MARKER.decode())
    assert refused.kind.status == 400
    assert refused.finding.got == BREAKS_A_RULE[1]


@pytest.mark.parametrize("offer", [b"h2c", b"websocket", b"TLS/1.3, x"])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_an_offered_protocol_is_declined(server_url: str, offer: bytes, size: int) -> None:
    fields = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: " + offer + b"\r\nHTTP2-Settings: AAMAAABk\r\n"
    lengths = LENGTH + b"\r\n" + BODY, b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    with connected(server_url) as connection:
        for rest in lengths:
            request = POST + fields + rest
            for start in range(0, len(request), size):
                connection.sendall(request[start : start + size])
            assert_answer(received(connection))
        for head in (fields, b""):  # without a body, too, and the connection goes on
            connection.sendall(LINE + b"Host: h\r\n" + head + b"\r\n")
            assert orjson.loads(received(connection).content) == {"status": "ready"}


def test_trailing_fields_are_no_fields_of_the_request(server_url: str) -> None:
    body = b"%x\r\n%b\r\n0\r\nContent-Type: text/plain\r\n\r\n" % (len(BODY), BODY)
    assert_answer(sent(server_url, CHUNKED + body))


def test_a_refused_head_request_gets_no_body(server_url: str) -> None:
    with connected(server_url) as connection:
        connection.sendall(b"HEAD http://user@h/ HTTP/1.1\r\nHost: h\r\n\r\n")
        whole = b"".join(iter(lambda: connection.recv(4096), b""))
    head, _, body = whole.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-type: application/problem+json" in head
    assert body == b""


def test_malformed_bytes_after_a_pipelined_request_do_not_cost_its_response(server_url: str) -> None:
    with connected(server_url) as connection:
        connection.sendall(POST + LENGTH + b"\r\n" + BODY + MARKER + b"\r\n\r\n")
        whole = b"".join(iter(lambda: connection.recv(4096), b""))
    first, _, second = whole.partition(b"HTTP/1.1 400 ")
    assert orjson.loads(first.partition(b"\r\n\r\n")[2]) == ANSWER
    assert orjson.loads(second.partition(b"\r\n\r\n")[2])["status"] == 400


def test_a_body_that_turns_malformed_after_its_refusal_ends_the_connection(server_url: str) -> None:
    fields = b"POST /conv/forward HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\nExpect: 100-continue\r\n"
    with connected(server_url) as connection:
        connection.sendall(fields + b"Transfer-Encoding: chunked\r\n\r\n")
        assert_problem(received(connection), 415)
        with contextlib.suppress(ConnectionError):
            connection.sendall(MARKER + b"\r\n")
            assert connection.recv(1) == b""
    assert httpx.get(f"{server_url}/health/ready").status_code == 200
