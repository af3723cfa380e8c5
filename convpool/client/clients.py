"""The two clients: they differ only in how they send and wait."""

from __future__ import annotations

import asyncio
import collections
import os
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

import httpx
from numpy.typing import NDArray

from cnn_core import ConvGradients, MaxPoolResult, __version__

from ..cases import Cases
from .errors import CallError
from .local import AsyncLocalTransport, LocalTransport
from .operations import Operations
from .reports import LayerShape, Report
from .retries import Retries
from .wire import Call, sending

__all__ = ["AsyncClient", "Client"]

Array = NDArray[Any]

DEFAULT_URL = "http://127.0.0.1:8000"
LOCAL_URL = "http://convpool.local"

DEFAULT_TIMEOUT = httpx.Timeout(120, connect=5)
"""Seconds; a server with its default settings responds within 70 s, be it to say that it is busy."""

DEFAULT_CONCURRENCY = 8


def _options(base_url: str | None, *, local: bool, api_key: str | None, timeout: Any) -> dict[str, Any]:
    """Return the arguments that both of httpx's clients are made with."""
    if local and base_url:
        raise ValueError("a client calls a server (base_url) or computes in this process (local), not both")
    url = LOCAL_URL if local else base_url or os.environ.get("CONVPOOL_URL") or DEFAULT_URL
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"the URL of a server begins with http:// or https://, such as {DEFAULT_URL}; got {url!r}")
    key = api_key or os.environ.get("CONVPOOL_API_KEY")
    headers = {"User-Agent": f"convpool/{__version__}"} | ({"Authorization": f"Bearer {key}"} if key else {})
    return {"base_url": url, "headers": headers, "timeout": timeout}


class Client(Operations[Array, ConvGradients, MaxPoolResult, LayerShape, Cases, Report, bytes]):
    """Calls a server of convpool. It may be used from several threads.

    Parameters
    ----------
    base_url : str, optional
        Of the server; default: the environment variable ``CONVPOOL_URL``, or ``http://127.0.0.1:8000``.
    local : bool
        Compute in this process instead, by the same code as the server: needs ``convpool[service]``.
    api_key : str, optional
        If the server requires one; default: the environment variable ``CONVPOOL_API_KEY``.
    timeout : float or httpx.Timeout
        Seconds that connecting, sending or waiting for a response may take.
    retries : Retries
        How often a call is repeated if there is no server, or a busy one.
    transport : httpx.BaseTransport, optional
        Such as ``httpx.HTTPTransport(uds="/run/convpool.sock")``.

    Examples
    --------
    ::

        with Client() as client:
            output = client.conv_forward(x, w, stride=2, padding="same")
            gradients = client.conv_backward(np.ones_like(output), x, w, stride=2, padding="same")
            gradients.grad_weight
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        local: bool = False,
        api_key: str | None = None,
        timeout: float | httpx.Timeout | None = DEFAULT_TIMEOUT,
        retries: Retries = Retries(),  # noqa: B008 it is frozen
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        options = _options(base_url, local=local, api_key=api_key, timeout=timeout)
        self._http = httpx.Client(transport=LocalTransport() if local else transport, **options)
        self._retries = retries

    def map(
        self, name: str, calls: Iterable[Mapping[str, Any]], concurrency: int = DEFAULT_CONCURRENCY
    ) -> Iterator[Any]:
        """Make many calls of one kind, several at a time, and yield their results in the order of the calls.

        Parameters
        ----------
        name : str
            Of a method: ``"conv_forward"``, ``"check"``.
        calls : iterable of mapping
            The arguments of each call by name: operands and parameters. It is consumed as results are taken, so that
            neither all calls nor all results need be in memory.
        concurrency : int
            How many calls are in progress at most.

        Raises
        ------
        CallError
            The first one, in the order of the calls; no further call begins then.
        """
        method = self._named(name)
        running: collections.deque[Future[Any]] = collections.deque()
        with ThreadPoolExecutor(concurrency, thread_name_prefix="convpool") as pool:
            for call in calls:
                running.append(pool.submit(method, **call))
                if len(running) >= concurrency:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()

    def close(self) -> None:
        """Close the connections; with ``local``, end the application."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, call: Call) -> Any:
        start, attempt = time.monotonic(), 0
        while True:
            attempt += 1
            try:
                with sending(str(self._http.base_url)):
                    response = self._http.request(**call.request())
                return call.result(response)
            except CallError as error:
                time.sleep(self._retries.pause(attempt, time.monotonic() - start, error))


class AsyncClient(
    Operations[
        Awaitable[Array],
        Awaitable[ConvGradients],
        Awaitable[MaxPoolResult],
        Awaitable[LayerShape],
        Awaitable[Cases],
        Awaitable[Report],
        Awaitable[bytes],
    ]
):
    """Calls a server of convpool from asyncio: the parameters and methods of ``Client``, whose results are awaited.

    Examples
    --------
    ::

        async with AsyncClient() as client:
            output = await client.conv_forward(x, w, stride=2)
            async for report in client.map("check", calls):
                print(report)
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        local: bool = False,
        api_key: str | None = None,
        timeout: float | httpx.Timeout | None = DEFAULT_TIMEOUT,
        retries: Retries = Retries(),  # noqa: B008 it is frozen
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        options = _options(base_url, local=local, api_key=api_key, timeout=timeout)
        self._http = httpx.AsyncClient(transport=AsyncLocalTransport() if local else transport, **options)
        self._retries = retries

    async def map(
        self, name: str, calls: Iterable[Mapping[str, Any]], concurrency: int = DEFAULT_CONCURRENCY
    ) -> AsyncIterator[Any]:
        """Make many calls, several at a time, and yield their results in order, as ``Client.map`` does."""
        method = self._named(name)
        running: collections.deque[asyncio.Task[Any]] = collections.deque()
        try:
            for call in calls:
                running.append(asyncio.ensure_future(method(**call)))
                if len(running) >= concurrency:
                    yield await running.popleft()
            while running:
                yield await running.popleft()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def aclose(self) -> None:
        """Close the connections; with ``local``, end the application."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _call(self, call: Call) -> Any:
        start, attempt = time.monotonic(), 0
        while True:
            attempt += 1
            try:
                with sending(str(self._http.base_url)):
                    response = await self._http.request(**call.request())
                return call.result(response)
            except CallError as error:
                await asyncio.sleep(self._retries.pause(attempt, time.monotonic() - start, error))
