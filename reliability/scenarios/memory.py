"""Bodies that take much memory, or hold the interpreter."""

from __future__ import annotations

import io
import threading
import time
from collections import Counter

import numpy as np

from ..attack import Attack, Control
from ..outcome import Context, Outcome, scenario
from ..server import MEBIBYTE
from ..wire import Connection, head

JSON, NPY = "application/json", "application/x-npy"
BUDGET, MOST_RESIDENT = 256, 512
HEALTH = head("/health/live", method="GET")


def numbers(size: int, number: bytes) -> bytes:
    """Return the JSON of a pooling whose input has about so many bytes."""
    count = size // (len(number) + 1) // 1000 * 1000
    opening = b'{"mode":"avg","kernel_size":1000,"input":{"dtype":"float64","shape":[1,%d,1],"data":[' % count
    return opening + b",".join([number] * count) + b"]}}"


def nested(size: int, number: bytes) -> bytes:
    """Return the same with nested lists."""
    rows = size // (8 * (len(number) + 1) + 2)
    row = b"[" + b",".join([number] * 8) + b"]"
    return b'{"mode":"avg","kernel_size":1000,"input":[[' + b",".join([row] * rows) + b"]]}"


def array(size: int) -> bytes:
    """Return an npy file of so many bytes."""
    file = io.BytesIO()
    np.save(file, np.zeros((1, size // 4096, 1024), np.float32))
    return file.getvalue()


def posted(target: str, media_type: str, body: bytes) -> bytes:
    """Return a request."""
    return head(target, {"Content-Type": media_type, "Content-Length": len(body)}) + body


def keep_uploading(port: int, control: Control, requests: list[bytes], seen: Counter[str]) -> None:
    """Send requests one after the other, over one connection while the server keeps it, and count what comes back."""
    connection: Connection | None = None
    index = 0
    while control.goes_on():
        index += 1
        try:
            if connection is None or connection.has_news():
                if connection is not None:
                    connection.close()
                connection = Connection(port, 60)
            try:
                connection.send(requests[index % len(requests)])
            except OSError:
                seen["cut_off"] += 1
            response = connection.receive()
            seen[str(response.status)] += 1
            if response.status in (429, 503):
                if "retry-after" not in response.headers:
                    seen["no_retry_after"] += 1
                control.goes_on(min(1.0, float(response.headers.get("retry-after", 1))))
            if response.closes:
                connection.close()
                connection = None
        except (OSError, ValueError) as error:
            seen["broken"] += 1
            seen[f"broken_{type(error).__name__}"] += 1
            if connection is not None:
                connection.close()
            connection = None
    if connection is not None:
        connection.close()


def upload(port: int, control: Control, requests: list[list[bytes]]) -> dict[str, float]:
    """Run a client for each list of requests."""
    seen: Counter[str] = Counter()
    threads = [threading.Thread(target=keep_uploading, args=(port, control, each, seen)) for each in requests]
    for thread in threads:
        thread.start()
    control.ready()
    for thread in threads:
        thread.join()
    return dict(seen)


def upload_numbers(port: int, control: Control, clients: int = 2, mebibytes: int = 30) -> dict[str, float]:
    """Upload JSON with numbers of several forms."""
    size = mebibytes * MEBIBYTE
    forms = [numbers(size, b"0.12345678"), nested(size, b"1.5"), numbers(size, b"1"), nested(size, b"-1.25e-3")]
    requests = [posted("/pool/forward", JSON, body) for body in forms]
    return upload(port, control, [requests[index:] + requests[:index] for index in range(clients)])


def upload_large(port: int, control: Control, clients: int = 40) -> dict[str, float]:
    """Upload arrays of 60 MiB, JSON of 30 MiB, and JSON of 60 MiB, which is more than is allowed."""
    npy = posted("/pool/forward?mode=max&kernel_size=1", NPY, array(60 * MEBIBYTE))
    text = posted("/pool/forward", JSON, numbers(30 * MEBIBYTE, b"0.12345678"))
    long_text = posted("/pool/forward", JSON, numbers(60 * MEBIBYTE, b"0.12345678"))
    kinds = ([npy], [npy], [text], [long_text])
    return upload(port, control, [kinds[index % len(kinds)] for index in range(clients)])


def upload_bombs(port: int, control: Control) -> dict[str, float]:
    """Upload bodies that are small, and large once decompressed, in every content coding; and archives."""
    import gzip  # noqa: PLC0415
    import zlib  # noqa: PLC0415

    zeros = bytes(400 * MEBIBYTE)
    raw = zlib.compressobj(9, zlib.DEFLATED, -15)
    coded = {
        "gzip": gzip.compress(zeros, 6),
        "deflate": zlib.compress(zeros, 6),
        "deflate, raw": raw.compress(zeros) + raw.flush(),
    }
    file = io.BytesIO()
    np.savez_compressed(file, input=np.zeros((1, 100 * MEBIBYTE // 4, 1), np.float32))
    requests = [posted("/pool/forward?mode=max&kernel_size=1", "application/x-npz", file.getvalue())]
    for coding, body in coded.items():
        for media_type in (JSON, NPY):
            fields = {"Content-Type": media_type, "Content-Encoding": coding.partition(",")[0]}
            requests.append(head("/pool/forward", {**fields, "Content-Length": len(body)}) + body)
    del zeros
    return upload(port, control, [requests[index:] + requests[:index] for index in range(4)])


def watch_health(port: int, seconds: float) -> tuple[list[float], int]:
    """Ask for the health twenty times a second; return the milliseconds of each answer, and the number of failures."""
    taken, failures, end = [], 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        try:
            with Connection(port, 10) as connection:
                failures += connection.ask(HEALTH).status != 200
            taken.append(1000 * (time.perf_counter() - start))
        except OSError:
            failures += 1
        time.sleep(0.05)
    return sorted(taken), failures


# ----------------------------------------------------------------------------------------------------- the scenarios


@scenario
def json_numbers(context: Context, outcome: Outcome) -> None:
    """2 clients upload 30 MiB of JSON numbers again and again."""
    with context.server() as server:
        context.beside(outcome, server, upload_numbers)


@scenario
def json_in_a_small_budget(context: Context, outcome: Outcome) -> None:
    """2 clients upload 30 MiB of JSON numbers to a server with a budget of 256 MiB."""
    with context.server(max_memory_bytes=BUDGET * MEBIBYTE) as server:
        context.beside(outcome, server, upload_numbers)
        _require_bounds(outcome)


@scenario
def memory_budget(context: Context, outcome: Outcome) -> None:
    """40 clients upload bodies of 60 MiB, as npy and JSON, to a server with a budget of 256 MiB, for 40 s."""
    seconds = max(40.0, context.seconds) if context.seconds >= 5 else context.seconds
    with context.server(max_memory_bytes=BUDGET * MEBIBYTE) as server:
        server.forget_peak()
        with Attack(upload_large, server.port) as attack:
            taken, failures = watch_health(server.port, seconds)
            outcome.note(mib_peak=server.peak_memory() // MEBIBYTE)
        outcome.note(**attack.figures)
        outcome.note(health_p50_ms=round(taken[len(taken) // 2], 1), health_max_ms=round(taken[-1], 1))
        outcome.require("health within 100 ms", holds=taken[-1] <= 100 and not failures)
        _require_bounds(outcome)
        with context.load(server) as load:
            after = load.run(1)
        outcome.require("unharmed afterwards", holds=set(after.statuses) == {200} and not after.failures)


@scenario
def bombs(context: Context, outcome: Outcome) -> None:
    """4 clients send bodies of some hundred KiB that are 400 MiB decompressed, in each coding, and such archives."""
    with context.server(max_memory_bytes=BUDGET * MEBIBYTE) as server:
        context.beside(outcome, server, upload_bombs)
        _require_bounds(outcome)


def _require_bounds(outcome: Outcome) -> None:
    seen = outcome.figures
    outcome.require(f"resident peak below {MOST_RESIDENT} MiB", holds=float(seen["mib_peak"]) < MOST_RESIDENT)
    statuses = {name for name in seen if name.isdigit()}
    outcome.require("only 200, 413, 429 or 503", holds=statuses <= {"200", "413", "429", "503"})
    outcome.require("Retry-After", holds="no_retry_after" not in seen)
    outcome.require("no connection broken", holds="broken" not in seen)
