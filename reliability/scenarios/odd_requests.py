"""Requests that are small, and should not be much work either."""

from __future__ import annotations

import json
import threading
from collections import Counter

from ..attack import Control
from ..outcome import Context, Outcome, scenario
from ..wire import Connection, head
from .memory import posted, upload

JSON = "application/json"
BOUNDARY = "limit"


def ask_for(port: int, control: Control, target: str, times: int = 300, accept: str = "") -> dict[str, float]:
    """Ask for a document on so many connections at once, again and again."""
    request = head(target, {"Accept-Encoding": accept} if accept else {}, method="GET")
    seen: Counter[str] = Counter()

    def ask() -> None:
        try:
            with Connection(port, 60) as connection:
                seen[str(connection.ask(request).status)] += 1
        except OSError:
            seen["failed"] += 1

    control.ready()
    while control.goes_on():
        threads = [threading.Thread(target=ask) for _ in range(times)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return {f"documents_{name}": count for name, count in seen.items()}


def send_parts(port: int, control: Control, parts: int = 100_000) -> dict[str, float]:
    """Upload forms of very many parts: fields of one name, of many names, empty files."""
    forms = []
    for disposition in ('name="stride"', 'name="p%d"', 'name="input"; filename="x.npy"'):
        part = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n1\r\n"
        written = "".join(part % index if "%d" in part else part for index in range(parts))
        forms.append(
            posted("/conv/forward", f"multipart/form-data; boundary={BOUNDARY}", written.encode() + b"--limit--")
        )
    return upload(port, control, [forms[index:] + forms[:index] for index in range(3)])


def send_queries(port: int, control: Control) -> dict[str, float]:
    """Send query strings as long as a head may be."""
    body = json.dumps({"input": [[[1.0]]], "mode": "max", "kernel_size": 1}).encode()
    queries = [
        "&".join(f"a{index}=1" for index in range(2000)),
        "stride=" + "[" * 7000 + "]" * 7000,
        "padding=[" + ",".join(["1"] * 7000) + "]",
        "stride=" + "9" * 15000,
        "%5B" * 5000,
        "stride=1&" * 1600,
    ]
    requests = [posted(f"/pool/forward?{query}", JSON, body) for query in queries]
    return upload(port, control, [requests[index:] + requests[:index] for index in range(4)])


def send_inputs(port: int, control: Control, inputs: int = 20_000) -> dict[str, float]:
    """Send inference requests with thousands of inputs, outputs and parameters, and JSON with as many names."""
    one = {"shape": [1, 1, 1], "datatype": "FP32", "data": [1.0]}
    target = "/v2/models/conv_forward/infer"
    bodies = [
        {"inputs": [{"name": "input", **one}] * inputs},
        {"inputs": [{"name": f"input{index}", **one} for index in range(inputs)]},
        {"inputs": [{"name": "input", **one}], "outputs": [{"name": "output"}] * inputs},
        {"inputs": [{"name": "input", **one}], "parameters": {f"p{index}": 1 for index in range(inputs)}},
        {"inputs": [{"name": "input", **one, "parameters": {f"p{index}": 1 for index in range(inputs)}}]},
    ]
    requests = [posted(target, JSON, json.dumps(body).encode()) for body in bodies]
    names = {f"p{index}": index for index in range(5 * inputs)}
    requests += [
        posted("/conv/forward", JSON, json.dumps({"input": [[[1.0]]], **names}).encode()),
        posted("/conv/shape", JSON, json.dumps(names).encode()[: 2**19]),
        posted("/conv/forward", JSON, b'{"input":' + b"[" * 2**20 + b"]" * 2**20 + b"}"),
        posted("/conv/forward", JSON, b'{"input":"' + b"\\u0061" * 2**18 + b'"}'),
        posted("/conv/forward", JSON, b'{"stride":' + b"9" * 2**22 + b"}"),
    ]
    return upload(port, control, [requests[index:] + requests[:index] for index in range(4)])


@scenario
def documents(context: Context, outcome: Outcome) -> None:
    """/openapi.json is asked for 300 times at once, again and again."""
    with context.server() as server:
        figures = context.beside(outcome, server, ask_for, target="/openapi.json")
        outcome.require("every document came", holds=set(figures) == {"documents_200"})


@scenario
def documents_compressed(context: Context, outcome: Outcome) -> None:
    """As documents, for clients that accept gzip."""
    with context.server() as server:
        figures = context.beside(outcome, server, ask_for, target="/openapi.json", accept="gzip")
        outcome.require("every document came", holds=set(figures) == {"documents_200"})


@scenario
def multipart_parts(context: Context, outcome: Outcome) -> None:
    """3 clients upload forms of 100,000 parts."""
    with context.server() as server:
        context.beside(outcome, server, send_parts)
        _require_refused(outcome)


@scenario
def long_queries(context: Context, outcome: Outcome) -> None:
    """4 clients send query strings of 15 KB: many names, deep lists, long numbers."""
    with context.server() as server:
        context.beside(outcome, server, send_queries)
        _require_refused(outcome)


@scenario
def many_inputs(context: Context, outcome: Outcome) -> None:
    """4 clients send requests with tens of thousands of inputs, outputs, parameters, names and brackets."""
    with context.server() as server:
        context.beside(outcome, server, send_inputs)
        _require_refused(outcome)


def _require_refused(outcome: Outcome) -> None:
    statuses = {name for name in outcome.figures if name.isdigit()}
    outcome.require("each is refused with 4xx", holds=all(name.startswith("4") or name == "503" for name in statuses))
    outcome.require("no connection broken", holds="broken" not in outcome.figures)
