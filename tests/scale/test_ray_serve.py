"""The service on Ray Serve, on a cluster of several nodes on this machine."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients import ApplicationClient
from tests.comparisons import normal
from tests.scale.load import Load
from tests.scale.ray_cluster import RayCluster, ray_cluster
from tests.service import payloads
from tests.service.calls import EXAMPLES, assert_identical, computed, dtypes_of
from tests.service.payloads import Call, Options
from tests.waiting import wait_until

PROBLEMS_BY_RAY = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "convpool.ray_serve:proxy_middlewares"}
FRAMING = {"date", "server", "server-timing", "transfer-encoding", "connection", "x-request-id", "content-length"}
"""Headers of the connection, or of the one request."""

WEIGHT = normal(41, 41, 16, 16)
HEAVY = Call("heavy", "/conv/forward", {"input": normal(1, 8, 8, 16), "weight": WEIGHT}, {"padding": 150}, ())
"""31 billion multiply-accumulates of 3 MB: some seconds of one processor, and soon sent."""

LONG = HEAVY._replace(operands={"input": normal(1, 224, 224, 16), "weight": normal(41, 41, 16, 96)}, parameters={})
"""Three times that."""

POOL = {"mode": "max", "kernel_size": 1, "input": [[[[1]]]]}

ANSWERS = [
    ("GET", "/ops", {}),
    ("GET", "/openapi.json", {}),
    ("GET", "/", {}),
    ("GET", "/docs/scaling.md", {}),
    ("GET", "/health/ready", {}),
    ("HEAD", "/ops", {}),
    ("GET", "/v2/models/conv_forward", {}),
    ("GET", "/nothing", {}),
    ("GET", "/conv/forward", {}),
    ("POST", "/v2/models/nothing/infer", payloads.json_body({})),
    ("POST", "/conv/forward", payloads.json_body({"input": 1})),
    ("POST", "/conv/forward", payloads.typed("text/csv", b"1")),
    ("POST", "/conv/forward", payloads.typed(payloads.NPY, b"1")),
    ("POST", "/conv/forward", payloads.typed(payloads.JSON, b"[" * (2**25 + 1))),
    ("POST", "/pool/forward", {**payloads.json_body({}), "params": {"mode": "median"}}),
]
"""What is no operation, and what is a problem: 404, 405, 422, 415, 400, 413."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster(2, **PROBLEMS_BY_RAY) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=60, trust_env=False, limits=httpx.Limits(max_connections=64)) as http:
        yield http


def encoded(call: Call) -> Iterator[tuple[str, Options]]:
    for form, encode in payloads.ENCODERS.items():
        if form != "npy" or len(call.operands) == 1:
            yield form, encode(call.operands, call.parameters)


def own_headers(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name not in FRAMING}


def send(http: httpx.Client, base_url: str, call: Call, seconds: float = 60.0) -> httpx.Response:
    options = payloads.npz_request(call.operands, call.parameters)
    return http.post(f"{base_url}{call.path}", **options, timeout=seconds)


def assert_same(actual: httpx.Response, expected: httpx.Response, what: str) -> None:
    assert (actual.status_code, actual.content) == (expected.status_code, expected.content), what
    # which the service's own server adds
    assert own_headers(actual) == {**own_headers(expected), "x-content-type-options": "nosniff"}, what


# ----------------------------------------------------------------------------------------------------------- answers


def test_every_operation_in_every_format(cluster: RayCluster, http: httpx.Client, client: ApplicationClient) -> None:
    cluster.deploy(replicas=2)
    for call in EXAMPLES:
        expected = computed(call, call.operands)
        for form, options in encoded(call):
            own = client.post(call.path, **options)
            response = http.post(f"{cluster.base_url}{call.path}", **options)
            assert_same(response, own, f"{call} in {form}")
        results = payloads.results(response, call.results, dtypes_of(expected))
        assert_identical(results, expected)


@pytest.mark.parametrize(("method", "path", "options"), ANSWERS)
def test_other_answers_and_problems(
    cluster: RayCluster, http: httpx.Client, client: ApplicationClient, method: str, path: str, options: dict[str, Any]
) -> None:
    options = {**options, "headers": {**options.get("headers", {}), "X-Request-ID": "of-the-client"}}
    response = http.request(method, f"{cluster.base_url}{path}", **options)
    assert_same(response, client.request(method, path, **options), path)
    assert response.headers.get_list("x-request-id") == ["of-the-client"]


def test_a_large_result_whole_and_compressed(
    cluster: RayCluster, http: httpx.Client, client: ApplicationClient
) -> None:
    input, weight = normal(3, 64, 64, 16), normal(3, 3, 16, 64)
    for more in ({}, {"Accept-Encoding": "gzip", "Accept": payloads.JSON}):
        options = payloads.npz_request({"input": input, "weight": weight}, {"padding": 1})
        options["headers"].update(more)
        response = http.post(f"{cluster.base_url}/conv/forward", **options)
        assert len(response.content) > 6_000_000
        assert_same(response, client.post("/conv/forward", **options), str(more))


# ------------------------------------------------------------------------------------------------------ a node's end


def kill_a_node_under_load(cluster: RayCluster) -> Load:
    """Return what clients that do not retry have seen, after one of two nodes was killed."""
    cluster.deploy(replicas=2)
    with Load(cluster.base_url, clients=4) as once, Load(cluster.base_url, clients=2, retrying=True) as again:
        for happens in (lambda: None, cluster.kill_node):
            happens()
            once.wait_for_more(10)
            again.wait_for_more(10)
    assert not once.wrong
    assert not again.wrong
    assert not again.failures
    # at most what was in flight: one request of each client
    assert len({failure.partition(":")[0] for failure in once.failures}) == len(once.failures), once.failures
    return once


def test_a_node_killed_under_load(cluster: RayCluster) -> None:
    once = kill_a_node_under_load(cluster)
    assert set(once.statuses) <= {200, 503}
    assert all("the replica has ended" in failure for failure in once.failures)
    cluster.add_node()
    wait_until(lambda: cluster.replicas == 2)


# --------------------------------------------------------------------------------------------------- one replica


def test_a_client_that_leaves_ends_its_computation(cluster: RayCluster, http: httpx.Client) -> None:
    cluster.deploy(replicas=1)

    def metric(name: str) -> float:
        lines = http.get(f"{cluster.base_url}/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    before = metric("convpool_requests_total")
    with pytest.raises(httpx.ReadTimeout):
        send(http, cluster.base_url, LONG, seconds=2.0)
    wait_until(lambda: metric("convpool_requests_in_progress") == 1)  # that which asks
    assert metric("convpool_requests_total") > before
    assert metric('convpool_requests_total{operation="conv_forward",status="200"}') == 0
    assert metric("convpool_memory_charged_bytes") == 0


@pytest.mark.parametrize("arguments", [{"replica": 2}, {"replicas": 0}, {"replicas": 3, "max_replicas": 2}])
def test_arguments_that_are_none_are_refused(cluster: RayCluster, arguments: dict[str, int]) -> None:
    with pytest.raises(AssertionError, match="validation error for Arguments"):
        cluster.deploy(**arguments)


# ---------------------------------------------------------------------------------------------------------- overload


def responses_to_more_than_fit(http: httpx.Client, base_url: str, fit: int, more: int) -> list[httpx.Response]:
    """Return the responses to as many requests as fit, sent one after the other, and to more at once, sent after them.

    Ray counts a request as one that waits only when a replica has not taken it: of many at once some more get in.
    """
    options = payloads.npz_request(HEAVY.operands, HEAVY.parameters)

    def one(_: int) -> httpx.Response:
        return http.post(f"{base_url}{HEAVY.path}", **options)

    with ThreadPoolExecutor(fit + more) as threads:
        futures = []
        for index in range(fit + more):
            futures.append(threads.submit(one, index))
            if index < fit:
                time.sleep(0.3)
        return [future.result() for future in futures]


def test_more_requests_than_may_wait_are_refused(cluster: RayCluster, http: httpx.Client) -> None:
    cluster.deploy({"CONVPOOL_MAX_REQUESTS": "2"}, replicas=1, max_queued_requests=3)
    responses = responses_to_more_than_fit(http, cluster.base_url, fit=2 + 3, more=7)
    assert Counter(response.status_code for response in responses) == {200: 2 + 3, 503: 7}
    for refusal in (response for response in responses if response.status_code == 503):
        assert refusal.headers["retry-after"] == "1"
        assert refusal.headers["content-type"] == payloads.PROBLEM
        problem = refusal.json()
        assert (problem["type"], problem["status"]) == ("urn:convpool:problem:busy", 503)
        assert refusal.headers.get_list("x-request-id") == [problem["request_id"]]


def test_replicas_come_with_the_load_and_go(cluster: RayCluster) -> None:
    cluster.deploy(replicas=1, max_replicas=2, target_ongoing_requests=1, upscale_delay_s=1, downscale_delay_s=1)
    assert cluster.replicas == 1
    with Load(cluster.base_url, clients=4) as load:
        wait_until(lambda: cluster.replicas == 2)
        load.wait_for_more()
    wait_until(lambda: cluster.replicas == 1)
    assert not load.wrong
    assert not load.failures


def test_the_command_of_ray_starts_it_below_a_prefix(cluster: RayCluster, http: httpx.Client) -> None:
    cluster.deploy(replicas=1)
    serve = Path(sys.executable).with_name("serve")
    command = [serve, "run", "--address", cluster.address, "--name", "other", "--route-prefix", "/layers"]
    environment = {**cluster.environment, "CONVPOOL_MAX_BODY_BYTES": "1000", "CONVPOOL_KEEP_ALIVE": "7"}
    with subprocess.Popen(
        # which ignores SIGINT if these tests run in the background of a shell
        ["env", "--default-signal=INT", *command, "convpool.ray_serve:app", "replicas=1"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        log: list[str] = []
        reader = threading.Thread(target=lambda: log.extend(process.stderr or ()))
        reader.start()
        try:
            url = f"{cluster.base_url}/layers"
            wait_until(
                lambda: http.get(f"{url}/health/ready").json() == http.get(f"{cluster.base_url}/health/ready").json()
            )
            response = http.post(f"{url}/pool/forward", **payloads.json_body(POOL))
            assert response.json() == {"output": [[[[1.0]]]]}
            refused = http.post(f"{url}/pool/forward", **payloads.json_body({**POOL, "more": "x" * 1000}))
            assert (refused.status_code, refused.headers["content-type"]) == (413, payloads.PROBLEM)
        finally:
            process.send_signal(signal.SIGINT)  # which ends Serve on the whole cluster: this test is its last
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            reader.join(60)
    assert any("Without effect on Ray Serve" in line and "CONVPOOL_KEEP_ALIVE" in line for line in log)


# ------------------------------------------------------------------------------------------------------ HAProxy mode


@pytest.fixture(scope="module")
def haproxy_cluster() -> Iterator[RayCluster]:
    with ray_cluster(2, haproxy=True, **PROBLEMS_BY_RAY) as cluster:
        yield cluster


def test_haproxy_mode_answers(haproxy_cluster: RayCluster, http: httpx.Client, client: ApplicationClient) -> None:
    haproxy_cluster.deploy({"CONVPOOL_MAX_REQUESTS": "2"}, replicas=2, max_queued_requests=1)
    for call in EXAMPLES:
        for form, options in encoded(call):
            response = http.post(f"{haproxy_cluster.base_url}{call.path}", **options)
            assert_same(response, client.post(call.path, **options), f"{call} in {form}")
    for method, path, options in ANSWERS:
        response = http.request(method, f"{haproxy_cluster.base_url}{path}", **options)
        assert response.status_code == client.request(method, path, **options).status_code, path


def test_haproxy_mode_refuses_what_may_not_wait(haproxy_cluster: RayCluster, http: httpx.Client) -> None:
    # each of the two replicas counts for itself
    responses = responses_to_more_than_fit(http, haproxy_cluster.base_url, fit=2 * (2 + 1), more=6)
    assert Counter(response.status_code for response in responses) == {200: 2 * (2 + 1), 503: 6}
    assert all(response.headers["retry-after"] == "1" for response in responses if response.status_code == 503)


def test_haproxy_mode_a_node_killed_under_load(haproxy_cluster: RayCluster) -> None:
    once = kill_a_node_under_load(haproxy_cluster)
    # these requests fit HAProxy's buffer, and are sent to the other replica; but Ray starts HAProxy anew without the
    # one that is gone, and the old one closes connections on which no request is, perhaps while one is sent
    assert set(once.statuses) <= {200}
    assert all("Server disconnected without sending a response" in failure for failure in once.failures), once.failures
