"""POST /{layer}/cases over HTTP: formats, limits, and what it leaves to others."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cnn_core import Cancellation, Cancelled
from service.app import create_app
from service.cases import CasesTask, planning_work
from service.cases.request import MAX_COUNT
from service.operations.scheduling import LIGHT_WORK, ComputePool
from service.settings import Settings
from tests.clients import ApplicationClient, application_client
from tests.service import metrics
from tests.service.cases.oracles import ENTRIES


@pytest.mark.parametrize("layer", ENTRIES)
def test_cases_come_as_an_npz_unless_another_format_is_asked_for(client: ApplicationClient, layer: str) -> None:
    response = client.post(f"/{layer}/cases", json={"count": 2})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-npz"
    archive = np.load(io.BytesIO(response.content))
    manifest = json.loads(archive["manifest"])
    assert [case["name"] for case in manifest["cases"]] == ["case_0000", "case_0001"]
    case = manifest["cases"][1]
    operands = {name: archive[f"case_0001/{name}"] for name in case["operands"] if name != "grad_output"}
    file = io.BytesIO()
    np.savez(file, **operands)  # the manifest's parameters and operands make the call that gives the results
    query = {name: value if isinstance(value, str) else json.dumps(value) for name, value in case["parameters"].items()}
    answer = client.post(
        f"/{layer}/forward",
        params=query,
        content=file.getvalue(),
        headers={"Content-Type": "application/x-npz", "Accept": "application/x-npz"},
    )
    assert answer.status_code == 200, answer.text
    output = np.load(io.BytesIO(answer.content))["output"]
    bound = case["results"]["output"]["tolerance"]["absolute"]
    np.testing.assert_allclose(output, archive["case_0001/output"], rtol=0, atol=bound)


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("application/json", "application/json"),
        ("application/jsonl", "application/jsonl"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("application/vnd.safetensors, application/json;q=0.5", "application/vnd.safetensors"),
        ("*/*", "application/x-npz"),
    ],
)
def test_accept_chooses_the_format(client: ApplicationClient, accept: str, media_type: str) -> None:
    response = client.post("/fold/cases", json={"count": 3}, headers={"Accept": accept})
    assert response.status_code == 200
    assert response.headers["content-type"] == media_type
    if "json" in media_type:
        lines = response.text.splitlines()
        assert len(lines) == (1 if media_type == "application/json" else 3)
        assert all(json.loads(line) for line in lines)


def test_other_formats_are_refused(client: ApplicationClient) -> None:
    assert client.post("/conv/cases", json={}, headers={"Accept": "text/csv"}).status_code == 406
    body = client.post("/conv/cases", content=b"PK", headers={"Content-Type": "application/x-npz"})
    assert body.status_code == 415


def test_the_query_string_may_say_how_many(client: ApplicationClient) -> None:
    response = client.post("/conv/cases", params={"count": 3, "seed": 5}, json={"kind": "integers"})
    assert json.loads(np.load(io.BytesIO(response.content))["manifest"])["seed"] == 5
    twice = client.post("/conv/cases", params={"count": 3}, json={"count": 3})
    assert twice.status_code == 422


def test_faults_have_pointers_into_the_request(client: ApplicationClient) -> None:
    response = client.post("/conv/cases", json={"parameters": {"stride": [1, 0]}, "shapes": {"input": [1, "x", 3]}})
    assert response.status_code == 422
    assert {error["pointer"] for error in response.json()["errors"]} == {"/parameters/stride/1", "/shapes/input/1"}


def test_requests_are_counted_by_the_name_of_the_task(client: ApplicationClient) -> None:
    client.post("/unfold/cases", json={"count": 1})
    counted = metrics.samples(client.get("/metrics").text)
    assert counted.sum("convpool_requests_total", operation="unfold_cases", status="200") >= 1


@pytest.fixture
def small_server() -> Iterator[ApplicationClient]:
    with application_client(create_app(Settings(max_result_bytes=2**20, max_work=2**33))) as client:
        yield client


LARGE = [
    ("conv", {"count": 400}, "bytes of results"),
    ("conv", {"count": 1, "shapes": {"input": [1, 2**31 - 1, 2**31 - 1, 3]}}, "bytes of results"),
    ("conv", {"parameters": {}, "shapes": {"input": [1, 40, 40, 64], "weight": [9, 9, 64, 64]}}, "units of work"),
    (
        "pool",
        {"parameters": {"mode": "avg", "kernel_size": 1}, "shapes": {"input": [1, 2**20, 64]}},
        "bytes of results",
    ),
    ("unpool", {"parameters": {"kernel_size": 2**20}, "shapes": {"input": [1, 8, 1]}, "count": 1}, "bytes of results"),
]


@pytest.mark.parametrize(("layer", "content", "what"), LARGE)
def test_what_is_too_large_is_refused_before_anything_is_computed(
    small_server: ApplicationClient, layer: str, content: dict[str, object], what: str
) -> None:
    tracemalloc.start()
    try:
        response = small_server.post(f"/{layer}/cases", json=content)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    assert response.status_code == 413, response.text
    assert any(what in error["message"] for error in response.json()["errors"])


def test_memory_is_within_the_prediction() -> None:
    for layer, content in (
        ("conv", {"shapes": {"input": [2, 60, 60, 8], "weight": [3, 3, None, 8]}, "parameters": {"padding": "same"}}),
        ("unpool", {"parameters": {"kernel_size": 4}, "shapes": {"input": [2, 30, 30, 8]}}),
        ("pool", {"parameters": {"mode": ["max", "avg", "lp"], "kernel_size": 3}, "shapes": {"input": [2, 60, 60, 8]}}),
        ("fold", {"parameters": {"kernel_size": 3, "output_size": [[60, 60]]}}),
        ("conv", {"count": 40}),
    ):
        task = CasesTask(ENTRIES[layer])
        request = {"count": 6, **content}
        task.compute(task.plan({**request, "count": 1}, {}), {})  # what is allocated once
        plan = task.plan(request, {})
        tracemalloc.start()
        try:
            task.compute(plan, {})
            taken = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert taken <= plan.prediction.result_bytes + plan.prediction.workspace_bytes + 2**20


def test_many_cases_are_planned_where_long_work_belongs() -> None:
    assert planning_work({"count": MAX_COUNT}) > LIGHT_WORK > planning_work({"count": 3})
    assert planning_work({"count": "x"}) < LIGHT_WORK
    assert planning_work({"kind": "edges"}) > planning_work({})


def test_the_pool_knows_what_planning_takes(client: ApplicationClient, monkeypatch: pytest.MonkeyPatch) -> None:
    works: list[int] = []
    run = ComputePool.run

    async def recording(pool: ComputePool, function: Any, work: int, gone: Any) -> Any:
        works.append(work)
        return await run(pool, function, work, gone)

    monkeypatch.setattr(ComputePool, "run", recording)
    assert client.post("/fold/cases", json={"count": 40}).status_code == 200
    assert works[0] == planning_work({"count": 40}) > LIGHT_WORK


def test_planning_and_computing_can_be_stopped() -> None:
    task = CasesTask(ENTRIES["conv"])
    plan = task.plan({"count": 5}, {})
    stopped = Cancellation()
    stopped.cancel()
    with stopped:
        with pytest.raises(Cancelled):
            task.plan({"count": 5}, {})
        with pytest.raises(Cancelled):
            task.compute(plan, {})
