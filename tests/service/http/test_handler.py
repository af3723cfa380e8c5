"""What is computed at once on the event loop, and what is handed to a compute thread."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest

from service.operations.operation import Operation
from tests.clients import ApplicationClient

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

IMAGE = np.random.default_rng(1).standard_normal((1, 8, 8, 3), np.float32)
KERNEL = np.random.default_rng(2).standard_normal((3, 3, 3, 8), np.float32)


@pytest.fixture
def computing_threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads that calls are computed on, in order."""
    names: list[str] = []
    compute = Operation.compute

    def named(operation: Operation, *arguments: Any) -> Any:
        names.append(threading.current_thread().name)
        return compute(operation, *arguments)

    monkeypatch.setattr(Operation, "compute", named)
    return names


def posted(client: ApplicationClient, save: Callable[..., None] = np.savez, **operands: Any) -> np.ndarray[Any, Any]:
    file = io.BytesIO()
    save(file, **operands)
    headers = {"Content-Type": "application/x-npz", "Accept": "application/x-npy"}
    # a parameter that no other test sends, so that the first call is not planned
    response = client.post("/conv/forward?dilation=[1,1]", content=file.getvalue(), headers=headers)
    assert response.status_code == 200, response.text
    return np.asarray(np.load(io.BytesIO(response.content)))


def is_compute(name: str) -> bool:
    return name.startswith(("compute", "light", "tiny"))


def test_a_small_call_is_computed_at_once_when_it_is_known(
    client: ApplicationClient, computing_threads: list[str]
) -> None:
    first, second = (posted(client, input=IMAGE, weight=KERNEL) for _ in range(2))
    assert is_compute(computing_threads[0]), "a new plan is made where it delays nobody"
    assert not is_compute(computing_threads[1])
    assert first.tobytes() == second.tobytes()
    double = posted(client, input=IMAGE.astype(np.float64), weight=KERNEL)
    assert is_compute(computing_threads[2]), "another type is another call"
    np.testing.assert_allclose(double, first, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("image", "kernel"),
    [
        pytest.param((1, 60, 60, 4), (3, 3, 4, 4), id="a large body"),
        pytest.param((1, 24, 24, 8), (9, 9, 8, 8), id="much work"),
        pytest.param((1, 30, 30, 4), (1, 1, 4, 64), id="a large result"),
    ],
)
def test_a_large_call_is_handed_to_a_thread(
    client: ApplicationClient, computing_threads: list[str], image: tuple[int, ...], kernel: tuple[int, ...]
) -> None:
    for _ in range(3):
        posted(client, input=np.ones(image, np.float32), weight=np.ones(kernel, np.float32))
    assert all(map(is_compute, computing_threads))


def test_an_archive_that_inflates_is_inflated_by_a_thread(
    client: ApplicationClient, computing_threads: list[str]
) -> None:
    for _ in range(2):
        posted(
            client,
            np.savez_compressed,
            input=np.zeros((1, 100, 100, 4), np.float32),
            weight=KERNEL[:, :, :1, :1].repeat(4, 2),
        )
    assert all(map(is_compute, computing_threads))


def test_a_small_call_that_is_wrong_is_told_so_each_time(client: ApplicationClient) -> None:
    zero_point = {"input": {"dtype": "int8", "shape": [1, 1, 1], "data": [1]}, "weight": [[[1]]], "input_zero_point": 1}
    typed = {**zero_point, "weight": {"dtype": "int8", "shape": [1, 1, 1], "data": [1]}}
    statuses = [
        client.post("/conv_integer/forward", json={**typed, "input_zero_point": value}).status_code
        for value in (1, 1, 200, 1)
    ]
    assert statuses == [200, 200, 422, 200], "the plan is by types; the values are checked in each call"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_a_json_result_is_compressed_if_one_coding_is_asked_for(client: ApplicationClient, coding: str) -> None:
    body = {"mode": "max", "kernel_size": 1, "input": np.arange(2000.0).reshape(1, -1, 1).tolist()}
    plain = client.post("/pool/forward", json=body, headers={"Accept-Encoding": "gzip, deflate, br, zstd"})
    small = client.post("/pool/forward", json={**body, "input": [[[1.0]]]}, headers={"Accept-Encoding": coding})
    assert "content-encoding" not in {*plain.headers, *small.headers}, "a list is no request, and a few bytes are few"
    for _ in range(3):  # also when the plan is known
        asked = client.post("/pool/forward", json=body, headers={"Accept-Encoding": coding})
        assert asked.headers["content-encoding"] == coding
        assert int(asked.headers["content-length"]) < len(plain.content) / 2
        content = zstd.decompress(asked.content) if coding == "zstd" else asked.content  # httpx knows the others
        assert orjson.loads(content) == plain.json()
    assert plain.headers["vary"] == asked.headers["vary"] == "Accept-Encoding"
    tensors = client.post(
        "/pool/forward", json=body, headers={"Accept-Encoding": coding, "Accept": "application/x-npy"}
    )
    assert not {"content-encoding", "vary"} & {*tensors.headers}
