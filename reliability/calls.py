"""Requests whose right answers are known, from loops or formulas that have nothing of the service in them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import numpy as np

from tests.comparisons import normal
from tests.declarations.declaration import Arrays
from tests.service import payloads
from tests.service.calls import EXAMPLES, case_of, declared, dtypes_of
from tests.service.payloads import Call, Options
from tests.service.v2 import messages

from .wire import HOST, Response

__all__ = ["CheckedCall", "middle_calls", "small_calls"]

GZIP = {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"}


class CheckedCall:
    """A request as bytes, and the check of its response.

    Parameters
    ----------
    name : str
    kind : str
        Its format.
    path : str
    options : dict
        Those of an httpx request.
    read : callable
        Returns the results of a response by name.
    expected : mapping of str to ndarray
    tolerance : tuple of float
        Relative and absolute.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        path: str,
        options: Options,
        read: Callable[[httpx.Response], Mapping[str, Any]],
        expected: Arrays,
        tolerance: tuple[float, float],
    ) -> None:
        self.name, self.kind = name, kind
        self.request = bytes_of(path, options)
        self._read, self._expected, self._tolerance = read, expected, tolerance
        self._right: set[bytes] = set()

    def __repr__(self) -> str:
        return self.name

    def fault(self, response: Response) -> str:
        """Return what is wrong with a response of status 200; nothing if it is right."""
        content = response.content
        if content in self._right:  # results do not depend on what else goes on, so that most are the same bytes
            return ""
        try:
            headers = [(name, value) for name, value in response.headers.items() if name != "content-encoding"]
            plain = gzip.decompress(content) if response.headers.get("content-encoding") == "gzip" else content
            results = self._read(httpx.Response(response.status, headers=headers, content=plain))
            assert set(results) == set(self._expected), f"results {sorted(results)}"
            for name, expected in self._expected.items():
                relative, absolute = self._tolerance
                assert results[name].shape == expected.shape, f"{name} has shape {results[name].shape}"
                np.testing.assert_allclose(results[name], expected, rtol=relative, atol=absolute, err_msg=name)
        except Exception as error:  # noqa: BLE001  (whatever cannot be read is a wrong answer)
            return f"{self.name}: {error!s:.300}"
        self._right.add(content)
        return ""


def bytes_of(path: str, options: Options) -> bytes:
    """Return a request as it goes over the wire."""
    request = httpx.Request("POST", f"http://{HOST}{path}", **options)
    content = request.read()
    lines = [b"POST %b HTTP/1.1" % request.url.raw_path]
    lines += [b"%b: %b" % field for field in request.headers.raw]
    return b"\r\n".join([*lines, b"", content])


def small_calls() -> list[CheckedCall]:
    """Return calls of every operation in every format: some hundred numbers each, checked against plain loops."""
    found: list[CheckedCall] = []
    for call in EXAMPLES:
        declaration, case = declared(call), case_of(call)
        forward = call.path.endswith("forward")
        expected = declaration.expected(case) if forward else declaration.expected_gradients(case)
        tolerance = declaration.forward_tolerance if forward else declaration.backward_tolerance
        found += checked(call, expected, tolerance, payloads.ENCODERS)
    return found


def middle_calls() -> list[CheckedCall]:
    """Return calls with some 100,000 numbers each, checked against formulas of NumPy."""
    input, weight = normal(4, 32, 32, 16, seed=1), normal(3, 3, 16, 32, seed=2)
    padded = np.pad(input, ((0, 0), (1, 1), (1, 1), (0, 0)))
    output = sum(padded[:, y : y + 32, x : x + 32] @ weight[y, x] for y in range(3) for x in range(3))
    conv = Call("conv_middle", "/conv/forward", {"input": input, "weight": weight}, {"padding": 1}, ("output",))
    image = normal(2, 64, 64, 8, seed=3)
    largest = image.reshape(2, 32, 2, 32, 2, 8).max(axis=(2, 4))
    pool = Call("max_middle", "/pool/forward", {"input": image}, {"mode": "max", "kernel_size": 2}, ("output",))
    return [
        *checked(conv, {"output": np.asarray(output)}, (1e-9, 1e-9), payloads.ENCODERS),
        *checked(pool, {"output": largest}, (0, 0), payloads.ENCODERS),
    ]


def checked(
    call: Call,
    expected: Arrays,
    tolerance: tuple[float, float],
    encoders: Mapping[str, Callable[[Any, Any], Options]],
) -> Iterator[CheckedCall]:
    """Yield a call in each format that can hold it, and by the Open Inference Protocol."""

    def read(response: httpx.Response) -> Mapping[str, Any]:
        return payloads.results(response, call.results, dtypes_of(expected))

    for form, encode in encoders.items():
        if form != "npy" or len(call.operands) == 1:
            options = encode(call.operands, call.parameters)
            yield CheckedCall(f"{call.name} in {form}", form, call.path, options, read, expected, tolerance)
    options = payloads.flat_request(call.operands, call.parameters)
    options = {"content": gzip.compress(options["content"], 1), "headers": {**options["headers"], **GZIP}}
    yield CheckedCall(f"{call.name} in gzip", "gzip", call.path, options, read, expected, tolerance)
    written = {name: value if isinstance(value, str) else json.dumps(value) for name, value in call.parameters.items()}
    for binary in (False, True):
        kind = f"V2 {'binary' if binary else 'JSON'}"
        options = messages.request(
            call.operands, {**written, "binary_data_output": True} if binary else written, binary=binary
        )
        yield CheckedCall(
            f"{call.name} in {kind}", kind, messages.path_of(call), options, messages.results, expected, tolerance
        )
