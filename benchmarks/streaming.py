"""A batch larger than a request: streamed, and cut into many requests one after the other.

``python -m benchmarks.streaming`` starts a server for each, and prints the time, the throughput, and by how much the
server's peak of resident memory grew (Linux).
"""

from __future__ import annotations

import functools
import http.client
import io
import re
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from tests.clients import running_server

MEBIBYTE = 2**20
IMAGES = 300
LAYERS: dict[str, tuple[str, tuple[int, ...], tuple[int, ...] | None]] = {
    "max pooling, 2 by 2": ("/pool/forward?mode=max&kernel_size=2", (512, 512, 1), None),
    "convolution, 3 by 3, 16 to 16 channels": ("/conv/forward?padding=same", (128, 128, 16), (3, 3, 16, 16)),
}
"""Path and query, shape of an image, shape of the weight: 1 MiB for each image."""
Arrays = dict[str, npt.NDArray[Any]]


def npy(array: npt.NDArray[Any]) -> bytes:
    """Return an npy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def form(arrays: Arrays) -> tuple[bytes, str]:
    """Return a form of npy files and its Content-Type."""
    body = b"".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n\r\n'.encode()
        + npy(array)
        + b"\r\n"
        for name, array in arrays.items()
    )
    return body + b"--b--\r\n", "multipart/form-data; boundary=b"


def streamed(connection: http.client.HTTPConnection, target: str, arrays: Arrays) -> int:
    """Send a batch on a thread while its result is read; return the bytes of the result."""
    body, content_type = form(arrays)
    path, _, query = target.partition("?")
    connection.putrequest("POST", f"{path}/stream?{query}&duplex=true")
    connection.putheader("Content-Type", content_type)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    sending = threading.Thread(target=connection.send, args=(body,))
    sending.start()
    response, size = connection.getresponse(), 0
    while piece := response.read(MEBIBYTE):
        size += len(piece)
    sending.join()
    return size


def cut(images: int, connection: http.client.HTTPConnection, target: str, arrays: Arrays) -> int:
    """Send a batch in many requests; return the bytes of the results."""
    size = 0
    for start in range(0, IMAGES, images):
        body, content_type = form({**arrays, "input": arrays["input"][start : start + images]})
        connection.request("POST", target, body, {"Content-Type": content_type, "Accept": "application/x-npy"})
        size += len(connection.getresponse().read())
    return size


def peak(process: subprocess.Popen[bytes]) -> int:
    """Return the peak of a process's resident memory, in bytes."""
    found = re.search(r"^VmHWM:\s*(\d+) kB$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def main() -> None:
    """Measure each way for each layer."""
    ways: dict[str, Callable[[http.client.HTTPConnection, str, Arrays], int]] = {
        "streamed": streamed,
        **{f"requests of {images} images": functools.partial(cut, images) for images in (1, 4, 48)},
    }
    drawn = np.random.default_rng(0)
    for title, (target, image, weight) in LAYERS.items():
        arrays: Arrays = {} if weight is None else {"weight": drawn.random(weight, np.float32)}
        arrays["input"] = drawn.random((IMAGES, *image), np.float32)
        for name, way in ways.items():
            with running_server("--log-level", "warning") as (url, process):
                connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=300)
                before, seconds = peak(process), []
                for _ in range(3):
                    began = time.perf_counter()
                    size = way(connection, target, arrays)
                    seconds.append(time.perf_counter() - began)
                connection.close()
                grown = (peak(process) - before) / MEBIBYTE
            rate = arrays["input"].nbytes / MEBIBYTE / min(seconds)
            print(f"{title}; {name}: {min(seconds):.2f} s, {rate:.0f} MiB/s, {grown:.0f} MiB, {size} bytes back")


if __name__ == "__main__":
    main()
