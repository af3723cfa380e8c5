"""The service inside this process: httpx sends to the application itself, not to a socket."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

import httpx

__all__ = ["AsyncLocalTransport", "LocalTransport"]

Returned = TypeVar("Returned")


class AsyncLocalTransport(httpx.AsyncBaseTransport):
    """Calls the service's application, whose lifespan begins with the first request.

    Its settings are those of ``convpool serve``, from the environment, but for API keys.

    Raises
    ------
    ModuleNotFoundError
        If what the service needs is not installed.
    """

    def __init__(self) -> None:
        try:
            app = importlib.import_module("convpool.service.app")
            settings = importlib.import_module("convpool.service.settings")
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"computing without a server (local) needs {error.name}, which is not installed: "
                "pip install 'convpool[client,service]'",
                name=error.name,
            ) from None
        # as libraries do: what the service logs goes where the program wants it, and nowhere if it has not said
        logging.getLogger("convpool").addHandler(logging.NullHandler())
        self._app = app.create_app(settings.Settings(api_keys_file=""))
        self._transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
        self._running = contextlib.AsyncExitStack()
        self._starting = asyncio.Lock()
        self._started = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Let the application respond."""
        async with self._starting:
            if not self._started:
                await self._running.enter_async_context(self._app.router.lifespan_context(self._app))
                self._started = True
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        """End the application."""
        await self._running.aclose()


class LocalTransport(httpx.BaseTransport):
    """The same for synchronous calls, from any thread: the application runs on an event loop of its own."""

    def __init__(self) -> None:
        self._transport = AsyncLocalTransport()
        self._loop = asyncio.new_event_loop()
        # a daemon, so that a program ends that does not close its client
        self._thread = threading.Thread(target=self._loop.run_forever, name="convpool-local", daemon=True)
        self._thread.start()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Let the application respond."""
        return self._run(self._respond(request))

    def close(self) -> None:
        """End the application and its event loop."""
        if not self._loop.is_closed():
            self._run(self._transport.aclose())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, Returned]) -> Returned:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _respond(self, request: httpx.Request) -> httpx.Response:
        response = await self._transport.handle_async_request(request)
        # still compressed, if it is
        content = [chunk async for chunk in response.stream]  # type: ignore[union-attr]
        return httpx.Response(
            response.status_code, headers=response.headers, stream=httpx.ByteStream(b"".join(content))
        )
