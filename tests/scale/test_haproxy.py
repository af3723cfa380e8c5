"""What HAProxy, as deploy/haproxy configures it, makes of servers that end, are replaced, are slow or are too few."""

from __future__ import annotations

import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from convpool.client import Client, Retries
from convpool.client.errors import Busy
from tests.waiting import SECONDS, wait_until

from .layers import LARGE, SMALL, Layer
from .load import Load
from .servers import Balanced, Replica, balanced

EXAMPLE = {"mode": "max", "kernel_size": 1, "input": [[[[1]]]]}
ONCE = Retries(attempts=1)
SIZES = pytest.mark.parametrize("layer", [SMALL, LARGE], ids=["small", "large"])


def in_progress(servers: Balanced, replica: Replica) -> int:
    return int(servers.counters(replica)["scur"])


def stop_with_requests(servers: Balanced, replica: Replica) -> int:
    """Stop a server's process, and return how many requests it then has, once they are as many as it will get."""
    replica.signal(signal.SIGSTOP)
    seen = [0]
    while len(seen) < 20 or len(set(seen[-20:])) > 1 or not seen[-1]:
        seen.append(in_progress(servers, replica))
        time.sleep(0.02)
    return seen[-1]


def kill(servers: Balanced, replica: Replica) -> int:
    """Kill a server, and return how many requests it had."""
    count = stop_with_requests(servers, replica)
    replica.end()
    return count


def test_small_requests_are_sent_again_when_a_server_is_killed(tmp_path: Path) -> None:
    with balanced(tmp_path, 3) as servers, Load(servers.url, 6) as load:
        load.wait_for_more()
        killed = servers.replicas[0]
        assert kill(servers, killed) > 0
        load.wait_for_more(10)
        sent_again = int(servers.counters(killed)["wredis"])
        assert not servers.is_up(killed)
    assert (load.wrong, load.failures, set(load.statuses)) == (0, [], {200})
    assert sent_again > 0


def test_of_large_requests_those_fail_that_a_killed_server_had(tmp_path: Path) -> None:
    with balanced(tmp_path, 3) as servers, Load(servers.url, 6, layer=LARGE) as load:
        load.wait_for_more()
        killed = servers.replicas[0]
        had = stop_with_requests(servers, killed)
        before = int(servers.counters(killed)["stot"])
        assert load.failures == []
        killed.end()
        wait_until(lambda: not servers.is_up(killed))
        load.wait_for_more(1)
        failures = len(load.failures)
        had += int(servers.counters(killed)["stot"]) - before  # those that it got while its process ended
        load.wait_for_more(10)
    assert load.wrong == 0
    assert 0 < failures == len(load.failures) <= had
    # On connections that were kept on both sides HAProxy says nothing: their clients must expect them to end.
    assert all("503, Retry-After 1" in failure or "without sending a response" in failure for failure in load.failures)


def test_the_error_of_a_killed_server_is_a_problem_document(tmp_path: Path) -> None:
    with balanced(tmp_path, 1) as servers, ThreadPoolExecutor(1) as pool, Client(servers.url, retries=ONCE) as client:
        servers.replicas[0].signal(signal.SIGSTOP)
        call = pool.submit(client.conv_forward, **LARGE.operands)
        wait_until(lambda: in_progress(servers, servers.replicas[0]) == 1)
        servers.replicas[0].end()
        with pytest.raises(Busy, match="The server ended before it responded") as raised:
            call.result(SECONDS)
    assert raised.value.retry_after == 1


@SIZES
def test_the_client_that_repeats_calls_does_not_notice(tmp_path: Path, layer: Layer) -> None:
    with balanced(tmp_path, 3) as servers, Load(servers.url, 6, layer=layer, retrying=True) as load:
        load.wait_for_more()
        assert kill(servers, servers.replicas[0]) > 0
        load.wait_for_more(10)
        kill(servers, servers.replicas[1])  # one is left
        load.wait_for_more(10)
    assert (load.wrong, load.failures) == (0, [])


@SIZES
def test_servers_are_replaced_one_after_the_other_without_a_failure(tmp_path: Path, layer: Layer) -> None:
    with balanced(tmp_path, 2) as servers, Load(servers.url, 4, layer=layer) as load:
        load.wait_for_more()
        for old in list(servers.replicas):
            servers.add()
            servers.wait_until_up()
            load.wait_for_more()
            old.signal(signal.SIGTERM)
            assert old.process.wait(SECONDS) == 0
            servers.forget(old)  # a container's name lasts until it has ended
            load.wait_for_more()
        wait_until(lambda: int(servers.counters()["act"]) == 2)
    assert (load.wrong, load.failures, set(load.statuses)) == (0, [], {200})


def test_a_server_that_the_name_no_longer_leads_to_gets_no_more_requests(tmp_path: Path) -> None:
    with balanced(tmp_path, 2) as servers, Load(servers.url, 4) as load:
        load.wait_for_more()
        gone = servers.replicas[0]
        servers.forget(gone)
        wait_until(lambda: not servers.is_up(gone))
        load.wait_for_more()
        assert (load.wrong, load.failures) == (0, [])
        assert gone.process.poll() is None


def test_a_server_that_does_not_listen_yet_costs_nobody_a_request(tmp_path: Path) -> None:
    with balanced(tmp_path, 1) as servers, Load(servers.url, 4) as load:
        servers.names.addresses.append("127.0.0.99")
        wait_until(lambda: "convpool/replica2 is DOWN" in servers.log.read_text())
        load.wait_for_more()
    assert (load.wrong, load.failures) == (0, [])


@SIZES
def test_a_stopped_server_is_taken_out_and_comes_back(tmp_path: Path, layer: Layer) -> None:
    with balanced(tmp_path, 3) as servers, Load(servers.url, 6, layer=layer) as load:
        load.wait_for_more()
        stopped = servers.replicas[0]
        had = stop_with_requests(servers, stopped)
        wait_until(lambda: not servers.is_up(stopped))
        served = load.right
        load.wait_until(lambda: load.right >= served + 60)
        assert in_progress(servers, stopped) == had  # no more than it had
        stopped.signal(signal.SIGCONT)
        wait_until(lambda: servers.is_up(stopped))
        load.wait_for_more()
    assert (load.wrong, load.failures, set(load.statuses)) == (0, [], {200})


def test_too_many_requests_get_a_503_instead_of_an_endless_queue(tmp_path: Path) -> None:
    places, milliseconds = 2, 400
    limits = {"MAX_REQUESTS": places, "QUEUE_TIMEOUT": f"{milliseconds}ms"}
    with balanced(tmp_path, 2, processors=0.2, haproxy=limits) as servers, Load(servers.url, 24) as load:
        load.wait_until(lambda: load.statuses[503] > 20 and load.statuses[200] > 20)
        most = [int(servers.counters(replica)["smax"]) for replica in servers.replicas]
        queue = int(servers.counters()["qmax"])
    assert most == [places, places]
    assert 0 < queue <= 24 - 2 * places
    assert (load.wrong, set(load.statuses)) == (0, {200, 503})
    assert all("503, Retry-After 1: " in failure and '"title":"Busy"' in failure for failure in load.failures)
    ended = re.findall(r" convpool/<NOSRV> \d+/(\d+)/-1/-1/\d+ 503 \d+ - - sQ-- ", servers.log.read_text())
    assert len(ended) == load.statuses[503]
    assert min(map(int, ended)) > 0.9 * milliseconds  # HAProxy rounds


def test_without_a_server_there_is_a_503_at_once_until_there_is_one(tmp_path: Path) -> None:
    with balanced(tmp_path, 0) as servers:
        response = httpx.post(f"{servers.url}/pool/forward", json=EXAMPLE, timeout=SECONDS)
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert response.headers["content-type"] == "application/problem+json"
        document = response.json()
        assert document["type"] == "urn:convpool:problem:busy"
        assert document["status"] == 503
        assert isinstance(document["error"], str)  # where the Open Inference Protocol has its message
        servers.add()
        servers.wait_until_up()
        assert httpx.post(f"{servers.url}/pool/forward", json=EXAMPLE, timeout=SECONDS).json() == {
            "output": [[[[1.0]]]]
        }
