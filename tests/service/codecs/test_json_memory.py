"""What reading JSON allocates has been charged to the request before."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest

from service.codecs import CODECS, Limits, RequestContext
from service.problems import RequestProblem
from tests.service.payloads import JSON

ROW = "[" + ",".join(["1"] * 100) + "]"
LARGE = {
    "shortest": f"[{','.join([ROW] * 2000)}]",
    "one_each": f"[{','.join(['[1]'] * 50_000)}]",
    "deep": f"[{','.join(['[[[[[1]]]]]'] * 20_000)}]",
    "long": f"[{','.join(['0.12345678901234567'] * 50_000)}]",
    "zeros": f"[{','.join(['-0'] * 100_000)}]",
    "middles": f"[{','.join(['16777217.0'] * 20_000)}]",
    "ragged": f"[{','.join([ROW] * 1000)},[1]]",
    "empty": f"[{','.join(['[]'] * 50_000)}]",
    "no_numbers": f"[{','.join(['null'] * 50_000)}]",
    "beyond": f"[{','.join(['1'] * 50_000)},1e999]",
}


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8"])
@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE.keys())
@pytest.mark.parametrize("size", [2**14, None])
def test_the_memory_that_is_taken_was_charged(text: str, dtype: str, size: int | None) -> None:
    if size:
        text = f"{text[: text.index(',', size)]}{']' * text[:9].count('[')}"
    body = bytearray(f'{{"dtype": "{dtype}", "input": {text}}}'.encode())
    charged: list[int] = []
    limits = Limits(0, charged.append)
    tracemalloc.start()
    try:
        with contextlib.suppress(RequestProblem):
            CODECS[JSON].decode(body, RequestContext(["input"]), limits)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < sum(charged) + 2**16


def test_numbers_take_four_times_their_text() -> None:
    charged: list[int] = []
    body = bytearray(f'{{"input": {LARGE["shortest"]}}}'.encode())
    CODECS[JSON].decode(body, RequestContext(["input"]), Limits(0, charged.append))
    assert sum(charged) <= 4 * len(body) + 3 * 2**22


def test_a_tensor_may_have_millions_of_lists() -> None:
    body = bytearray(b'{"dtype": "int8", "input": [' + b"[1]," * 2_000_000 + b"[1]]}")
    decoded = CODECS[JSON].decode(body, RequestContext(["input"]), Limits(0, lambda _: None))
    assert decoded.tensors["input"].shape == (2_000_001, 1)
