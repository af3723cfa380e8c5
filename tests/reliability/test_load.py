"""The load tells right answers from wrong ones, and lost requests from refused ones."""

from __future__ import annotations

from collections.abc import Sequence

import httpx
import numpy as np
import pytest

from reliability.calls import CheckedCall, small_calls
from reliability.load import Figures, Load, fault_of
from reliability.wire import Connection, Response, head
from tests.reliability.dummy_server import Answer, response, serving
from tests.service import payloads
from tests.service.payloads import Options

INPUT = np.array([[[1.0], [2.0]]])
RIGHT = {"output": np.array([[[3.0], [4.0]]])}


def read(answer: httpx.Response) -> dict[str, payloads.AnyArray]:
    return payloads.results(answer, ["output"])


def call(options: Options | None = None) -> CheckedCall:
    options = options or payloads.npy_request({"input": INPUT}, {})
    return CheckedCall("sum", "npy", "/x", options, read, RIGHT, (1e-9, 1e-9))


def answered(array: payloads.AnyArray) -> bytes:
    return response(200, payloads.npy_bytes(array), f"Content-Type: {payloads.NPY}")


def loaded(answer: Answer, calls: Sequence[CheckedCall], *, requests: int = 5) -> Figures:
    """Send some requests to a server, and return the figures."""
    seen = 0

    def counted(body: bytes) -> bytes:
        nonlocal seen
        seen += 1
        return answer(body)

    with serving(counted) as port, Load(port, calls, clients=1, pause=0.0, patience=10) as load:
        load.start()
        while seen < requests:
            pass
        return load.stop()


def test_right_answers() -> None:
    figures = loaded(lambda _: answered(RIGHT["output"]), [call()])
    assert set(figures.statuses) == {200}
    assert figures.by_kind == {("npy", 200): len(figures.milliseconds)}
    assert not figures.wrong
    assert not figures.failures


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (answered(RIGHT["output"] + [[0], [1e-6]]), "Mismatched"),
        (answered(RIGHT["output"][0]), "shape"),
        (response(200, b"npy", f"Content-Type: {payloads.NPY}"), "sum"),
        (response(200, b"", f"Content-Type: {payloads.JSON}"), "sum"),
        (response(500), "status 500"),
        (response(422), "status 422"),
        (response(503), "503 without Retry-After"),
    ],
)
def test_wrong_answers(answer: bytes, reason: str) -> None:
    figures = loaded(lambda _: answer, [call()])
    assert all(reason in fault for fault in figures.wrong)
    assert sum(figures.wrong.values()) == len(figures.milliseconds)


def test_an_answer_that_was_right_once_is_not_taken_for_another_call_s() -> None:
    other = call(payloads.npy_request({"input": -INPUT}, {}))
    assert not fault_of(call(), Response(200, {"content-type": payloads.NPY}, payloads.npy_bytes(RIGHT["output"])))
    wrong = Response(200, {"content-type": payloads.NPY}, payloads.npy_bytes(-RIGHT["output"]))
    assert fault_of(other, wrong)
    assert fault_of(other, wrong)


def test_refusals_that_say_when_to_come_again_are_counted() -> None:
    figures = loaded(lambda _: response(503, b"", "Retry-After: 1"), [call()])
    assert set(figures.statuses) == {503}
    assert not figures.wrong


def test_lost_requests() -> None:
    figures = loaded(lambda _: b"", [call()])
    assert set(figures.failures) <= {"Broken", "ConnectionResetError"}
    assert sum(figures.failures.values()) >= 4
    assert not figures.statuses


def test_a_connection_is_given_up_where_the_server_says_so() -> None:
    closing = answered(RIGHT["output"]).replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    assert not loaded(lambda _: closing, [call()]).failures


def test_what_is_read_from_a_connection() -> None:
    chunked = b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    with serving(lambda _: interim + chunked + response(404, b"no")) as port, Connection(port, 10) as connection:
        assert connection.ask(head("/")) == (200, {"transfer-encoding": "chunked"}, b"abc")
        assert connection.receive() == (404, {"content-length": "2"}, b"no")


def test_the_calls_are_of_every_operation_in_every_format() -> None:
    calls = small_calls()
    assert {call.kind for call in calls} >= {*payloads.ENCODERS, "gzip", "V2 JSON", "V2 binary"}
    assert len({call.name for call in calls}) == len(calls)


def test_percentiles() -> None:
    figures = Figures([float(value) for value in range(100, 0, -1)])
    assert (figures.percentile(0.5), figures.percentile(0.99), figures.percentile(1)) == (51, 100, 100)
    assert Figures().percentile(0.99) == float("inf")
