"""Bodies that arrive in many pieces, through a real server: what arrives is what is computed, in order and once."""

from __future__ import annotations

import io
import random
import re
from typing import Any

import numpy as np
import pytest
from starlette.requests import Request

from service.http.body import APPEND_TO_BODY, read_body
from service.operations.admission import Admission, Ticket
from service.problems import TooLarge
from service.settings import Settings
from tests.clients import running_server
from tests.service.test_serving import connected, received

IDENTITY = b"/pool/forward?mode=max&kernel_size=1"
HEAD = b"POST " + IDENTITY + b" HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-npy\r\n"


def npy_of(elements: int) -> bytes:
    file = io.BytesIO()
    np.save(file, np.random.default_rng(elements).standard_normal((1, elements, 1), np.float32))
    return file.getvalue()


@pytest.mark.parametrize("elements", [1, 30_000, 1_000_000])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_pieces_of_any_size_make_the_body(server_url: str, elements: int, is_chunked: bool) -> None:
    body, draw = npy_of(elements), random.Random(elements)
    pieces, start = [], 0
    while start < len(body):
        size = draw.choice([1, 100, 2**16, 2**18])
        pieces.append(body[start : start + size])
        start += size
    with connected(server_url) as connection:
        for _ in range(2):  # the connection goes on
            if is_chunked:
                connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
                for piece in pieces:
                    connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
                connection.sendall(b"0\r\n\r\n")
            else:
                connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body))
                for piece in pieces:
                    connection.sendall(piece)
            response = received(connection)
            assert response.status_code == 200, response.content
            assert response.content == body


@pytest.mark.anyio
async def test_a_buffer_is_offered_only_while_a_body_is_read() -> None:
    """What comes of a refused body later goes to nobody."""
    state: dict[str, Any] = {}
    seen: list[Any] = []

    async def receive() -> dict[str, Any]:
        seen.append(state.get(APPEND_TO_BODY))
        return {"type": "http.request", "body": bytes(40), "more_body": True}

    request = Request({"type": "http", "headers": [], "state": state}, receive)
    with pytest.raises(TooLarge):
        await read_body(request, {}, 100, Ticket(Admission(Settings())), Settings())
    assert seen[0] is None, "the first message has what came before"
    assert len(seen) > 1
    assert all(map(callable, seen[1:]))
    assert APPEND_TO_BODY not in state


def test_small_requests_in_one_piece_are_answered_in_order(server_url: str) -> None:
    bodies = [npy_of(elements) for elements in (1, 2, 3, 2, 1)]
    with connected(server_url) as connection:
        for _ in range(3):  # the plans are new, then known
            connection.sendall(b"".join(HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body) for body in bodies))
            stream = connection.makefile("rb")
            for body in bodies:
                head = b"".join(iter(stream.readline, b"\r\n")).lower()
                assert head.startswith(b"http/1.1 200 ")
                assert b"date: " in head
                assert b"convpool-parameters: " in head
                (length,) = re.findall(rb"content-length: (\d+)", head)
                assert stream.read(int(length)) == body


def test_a_small_response_is_logged_and_the_last_one_closes_the_connection(capfd: Any) -> None:
    body = npy_of(5)
    with running_server(CONVPOOL_LOG_LEVEL="info") as (base_url, _):
        for field in (b"", b"", b"Connection: close\r\n"):
            with connected(base_url) as connection:
                connection.sendall(HEAD + field + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
                response = received(connection)
                assert response.content == body
                assert (response.headers["connection"] == "close") == bool(field)
    written = capfd.readouterr().err
    assert len(re.findall(rf'"POST /pool/forward\?\.\.\." 200 [0-9.]+ ms {len(body)} bytes', written)) == 3
