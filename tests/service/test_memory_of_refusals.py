"""A refused request leaves nothing behind, also if the garbage collector does not run."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Iterator

import anyio
import numpy as np
import pytest

from tests.service import payloads
from tests.service.payloads import application
from tests.service.test_limits import Raw

BODY = payloads.npy_bytes(np.ones((1, 2**19, 1)))
REQUESTS = 5


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("query", [b"mode=max&kernel_size=0", b"mode=max&kernel_size=2&padding=9", b"mode=max"])
@pytest.mark.parametrize("content_type", [payloads.NPY, payloads.JSON])
def test_the_body_of_a_refused_request_is_freed(query: bytes, content_type: str) -> None:
    body = BODY if content_type == payloads.NPY else b"[" + BODY

    async def run() -> None:
        app = application()
        async with app.router.lifespan_context(app):

            async def refused() -> None:
                parts = (body[start : start + 2**16] for start in range(0, len(body), 2**16))
                raw = Raw(len(body), parts, path="/pool/forward", content_type=content_type, query=query)
                await raw.call(app)
                assert raw.status in {400, 422}
                await anyio.sleep(0.01)  # what the event loop still has to do

            await refused()
            gc.collect()
            tracemalloc.start()
            try:
                for _ in range(REQUESTS):
                    await refused()
                # a thread may still be about to let go of the last one
                assert tracemalloc.get_traced_memory()[0] < 2 * len(body)
            finally:
                tracemalloc.stop()

    asyncio.run(run())
