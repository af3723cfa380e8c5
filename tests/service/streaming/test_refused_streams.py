"""What is wrong with a streamed batch is said as for every request, as long as the response has not begun."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest

from service.app import create_app
from service.operations import streams
from service.settings import Settings
from tests.clients import ApplicationClient, application_client
from tests.service.streaming.exchanges import END, FORM, NPY, Sent, exchange, form, npy, split

POOL = "mode=max&kernel_size=1"
Parts = list[tuple[str, bytes | str]]
IMAGES = np.ones((8, 16, 16, 4), "<f4")
WEIGHT = npy(np.ones((3, 3, 4, 2), "<f4"))
HEADER = npy(IMAGES)[: -IMAGES.nbytes]


@pytest.fixture(scope="module")
def small() -> Iterator[ApplicationClient]:
    """A server that keeps little, and takes little in one request."""
    limits = Settings(max_result_bytes=IMAGES.nbytes, max_body_bytes=2**14, max_memory_bytes=2**25)
    with application_client(create_app(limits)) as client:
        yield client


def refused(sent: Sent, status: int, *words: str) -> None:
    assert sent.status == status, bytes(sent.body)
    problem = orjson.loads(sent.body)
    assert problem["status"] == status
    for word in words:
        assert word in problem["detail"], problem["detail"]


def pooled(client: ApplicationClient, body: bytes, query: str = POOL, **options: Any) -> Sent:
    return client.call(exchange("/pool/forward/stream", query, NPY, split(body, [5000]), **options))


def convolved(client: ApplicationClient, body: bytes, query: str = "") -> Sent:
    return client.call(exchange("/conv/forward/stream", query, FORM, split(body, [5000])))


def is_idle(client: ApplicationClient) -> bool:
    """Whether all places and all memory were given back."""

    async def idle(app: object) -> bool:
        admission = app.state.admission  # type: ignore[attr-defined]
        used = (admission.places, admission.large_places, admission.memory, admission.large_memory)
        return not any(used) and not admission.waiting_bodies

    return client.call(idle)


@pytest.fixture(autouse=True)
def _everything_is_given_back(small: ApplicationClient) -> Iterator[None]:
    yield
    assert is_idle(small)


def test_a_batch_may_be_larger_than_a_body(small: ApplicationClient) -> None:
    body = npy(np.ones((64, 16, 16, 4), "<f4"))
    assert pooled(small, body, "mode=avg&output_size=1").array.shape == (64, 1, 1, 4)
    assert pooled(small, body, f"{POOL}&duplex=true").array.shape == (64, 16, 16, 4)


def test_the_largest_result_that_is_kept(small: ApplicationClient) -> None:
    assert pooled(small, npy(IMAGES)).status == 200
    one_more = np.ones((9, 16, 16, 4), "<f4")
    refused(pooled(small, npy(one_more)), 413, f"{one_more.nbytes} bytes", "duplex=true", "several requests")


def test_an_image_larger_than_a_body(small: ApplicationClient) -> None:
    refused(pooled(small, npy(np.ones((1, 64, 64, 2), "<f4"))), 413, "images of 32768 bytes")


@pytest.mark.parametrize("duplex", ["", "&duplex=true"])
def test_too_few_and_too_many_bytes(small: ApplicationClient, duplex: str) -> None:
    body = npy(IMAGES)
    refused(pooled(small, body[:-1], POOL + duplex), 400, "input ends too early")
    refused(pooled(small, body + b"x", POOL + duplex), 400, "input goes on")
    refused(pooled(small, body[:-1], POOL + duplex, has_length=True), 400, "do not agree")
    refused(pooled(small, body[:20], POOL + duplex), 400, "ends within its header")
    refused(pooled(small, b"", POOL + duplex), 400, "npy magic")
    refused(pooled(small, body[:9000], POOL + duplex, ends_early=True), 400)


def test_what_goes_wrong_later_ends_the_response(small: ApplicationClient) -> None:
    """Without our server, the exception is what tells the server to close the connection."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "GROUP_BYTES", 4096)
        with pytest.raises(Exception, match="input ends too early"):
            pooled(small, npy(IMAGES)[:-1], f"{POOL}&duplex=true")
        refused(pooled(small, npy(IMAGES)[:-1]), 400, "input ends too early")  # it has not begun


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"not npy at all, but long enough to be a head of one", 400),
        (b"\x93NUMPY\x09\x00" + b"x" * 100, 400),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b"x" * 9000, 400),
        (HEADER.replace(b"(8, 16", b"(8,-16"), 400),
        (HEADER.replace(b"(8, 16, 16, 4)", b"(2147483648,)".ljust(14)), 422),
        (HEADER.replace(b"(8, 16, 16, 4)", b"()".ljust(14)), 422),
        (HEADER.replace(b"(8, 16, 16, 4)", b"(8, 0, 16, 4) "), 422),
        (HEADER.replace(b"<f4", b"<c8"), 422),
        (HEADER.replace(b"False", b"True "), 422),
    ],
)
def test_hostile_heads(small: ApplicationClient, head: bytes, status: int) -> None:
    assert head != HEADER
    refused(pooled(small, head), status)


def test_a_batch_that_no_memory_holds_is_only_as_large_as_what_comes(small: ApplicationClient) -> None:
    head = HEADER.replace(b"(8, 16, 16, 4)", b"(2147483647, 4,4,1)").replace(b"     ", b"", 1)
    refused(pooled(small, head, f"{POOL}&duplex=true"), 400, "input ends too early")


def test_forms_in_another_order(small: ApplicationClient) -> None:
    batch = npy(IMAGES)
    good: Parts = [("weight", WEIGHT), ("padding", "same"), ("input", batch)]
    assert convolved(small, form(good)).array.shape == (8, 16, 16, 2)
    refused(convolved(small, form([("input", batch), ("weight", WEIGHT)])), 422, "weight did not come before input")
    refused(convolved(small, form([*good, ("stride", "2")])), 422, "not the last part")
    refused(convolved(small, form([*good, ("input", batch)])), 422, "not the last part")
    refused(convolved(small, form([("wieght", WEIGHT), *good])), 422, "wieght")
    refused(convolved(small, form([("weight", WEIGHT), *good])), 422, "more than once")
    refused(convolved(small, form(good[:2])), 422, "input is missing")
    refused(convolved(small, form(good).removesuffix(END)), 400, "broken")
    refused(convolved(small, b"x" * 200_000), 400, "broken")
    refused(
        convolved(small, form([("weight", npy(np.ones((64, 64, 4, 2), "<f4"))), *good[1:]])), 413, "before the batch"
    )


def test_parameters_are_checked(small: ApplicationClient) -> None:
    refused(pooled(small, npy(IMAGES), "mode=max&kernel_size=1&duplex=2"), 422, "duplex")
    refused(pooled(small, npy(IMAGES), "mode=max&kernel_sise=1"), 422, "kernel_size")
    refused(pooled(small, npy(IMAGES), "mode=max&kernel_size=1&return_indices=true"), 422, "one result")


def test_formats(small: ApplicationClient) -> None:
    body = npy(IMAGES)
    calls = [
        ("/conv/forward/stream", NPY, {}, 415),
        ("/pool/forward/stream", "application/json", {}, 415),
        ("/pool/forward/stream", NPY, {"content-encoding": "gzip"}, 415),
        ("/pool/forward/stream", NPY, {"accept": "application/json"}, 406),
    ]
    for path, content_type, headers, status in calls:
        refused(small.call(exchange(path, POOL, content_type, [body], headers)), status)
    assert small.call(exchange("/unpool/forward/stream", "", NPY, [body])).status in (404, 405)
