"""What happens when the service cannot, or need not, finish what it began."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np
import pytest

from service.operations.operation import Operation
from tests.clients import ApplicationClient, running_server
from tests.service import payloads
from tests.service.test_serving import assert_problem, await_the_interim_response, connected, head, received

REQUEST = {"mode": "max", "kernel_size": 1, "input": [[[1.0]]]}


def test_a_lack_of_memory_is_said(client: ApplicationClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(Operation, "compute", lacking)
    answer = client.post("/pool/forward", json=REQUEST)
    payloads.problem(answer, 503)
    assert int(answer.headers["retry-after"]) >= 1


def test_a_request_that_outlasts_the_time_to_shut_down_is_told_so() -> None:
    # some ten seconds of work: a kernel as large as half of the image
    random = np.random.default_rng(0)
    image, kernel = random.normal(size=(2, 600, 600, 1)), random.normal(size=(300, 300, 1, 1))
    body = payloads.npz_bytes({"input": image, "weight": kernel})
    fields = (f"Content-Type: {payloads.NPZ}", f"Content-Length: {len(body)}")
    with (
        running_server(CONVPOOL_GRACEFUL_SHUTDOWN="1", CONVPOOL_MAX_WORK=str(10**12)) as (url, process),
        connected(url) as connection,
    ):
        connection.sendall(head(*fields, "Expect: 100-continue"))
        await_the_interim_response(connection)  # the request is one of those that are waited for
        connection.sendall(body)
        process.send_signal(signal.SIGTERM)
        response = received(connection)
        assert process.wait(timeout=60) == 0
    assert_problem(response, 503)
