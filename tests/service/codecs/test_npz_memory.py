"""What inflating the members of an npz allocates has been charged to the request before."""

from __future__ import annotations

import tracemalloc
import zipfile

import numpy as np
import pytest

from service.codecs import CODECS, Limits, RequestContext
from tests.service import payloads


@pytest.mark.parametrize("size", [100, 2**14, 2**21])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_memory_that_is_taken_was_charged(size: int, method: int) -> None:
    (media_type,) = (name for name in CODECS if "npz" in name)
    body = bytearray(payloads.npz_bytes({"input": np.zeros(size)}, method))
    charged: list[int] = []
    tracemalloc.start()
    try:
        CODECS[media_type].decode(body, RequestContext(["input"]), Limits(2**30, charged.append))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < sum(charged) + 2**17
    assert (sum(charged) > 0) == (method == zipfile.ZIP_DEFLATED)
