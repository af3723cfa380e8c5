"""The load generator of `make bench-service` counts whole responses, and does not take an error for one."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.serving.client import Failed, drive, head_of

BODY = bytes(range(256)) * 4096  # more than the system takes or hands over at once
REQUEST = b"POST /conv/forward HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
PACE = {"warm_up": 0.0, "seconds": 0.0, "patience": 30.0}


@contextlib.contextmanager
def server(status: int = 200) -> Iterator[tuple[int, Counter[bytes]]]:
    """Start a server that answers with the request's body; yield its port, and the bodies that came."""
    bodies: Counter[bytes] = Counter()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            bodies[body] += 1
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        listening.block_on_close = False
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield listening.server_address[1], bodies
        finally:
            listening.shutdown()
            thread.join()


@pytest.mark.parametrize("clients", [1, 8])
def test_every_response_is_whole_and_one_that_came_after_the_warm_up_counts(clients: int) -> None:
    with server() as (port, bodies):
        answer = drive(port, REQUEST, clients, **PACE)
    assert answer["first"].startswith(b"HTTP/1.1 200 ")
    assert answer["first"].endswith(b"\r\n\r\n" + BODY)
    assert set(bodies) == {BODY}
    assert len(answer["latencies"]) == bodies[BODY] - 1  # all but the first one, which is the warm-up
    assert answer["seconds"] > 0


def test_an_error_is_no_response() -> None:
    with server(status=503) as (port, _), pytest.raises(Failed, match="503") as raised:
        drive(port, REQUEST, 1, **PACE)
    assert raised.value.status == 503


def test_the_head_says_how_long_a_response_is() -> None:
    whole = b"HTTP/1.1 404 Not Found\r\ncontent-length: 12\r\nX: y\r\n\r\n"
    assert head_of(whole, len(whole)) == (404, len(whole) + 12)
    assert head_of(whole, len(whole) - 1) is None
    with pytest.raises(Failed, match="Content-Length"):
        head_of(b"HTTP/1.1 200 OK\r\n\r\n", 19)
