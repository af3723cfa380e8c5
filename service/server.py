"""One process that serves: from its start until it has finished what it began."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import logging
import logging.config
import selectors
import signal
import ssl
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from .http.connections import CONNECTIONS, IDLE_SECONDS, MANAGEMENT_CONNECTIONS
from .http.management import MANAGEMENT
from .http.readiness import READINESS
from .http.security_headers import FOR_ALL_RESPONSES
from .listeners import BACKLOG, CannotStart, Listener, log_addresses
from .observability.logs import log_config
from .settings import Settings

__all__ = ["Server", "configuration", "configure_logging", "tls_context"]

GIVING_UP_SECONDS = 1.0
"""How long requests that are given up may take to say so."""

POLLING_SECONDS = 0.02

logger = logging.getLogger("convpool")


def configure_logging(settings: Settings) -> None:
    """Configure all loggers of this process."""
    logging.config.dictConfig(log_config(settings.log_level, settings.log_format))


def configuration(settings: Settings) -> uvicorn.Config:
    """Return uvicorn's configuration."""
    return uvicorn.Config(
        f"{__package__}.app:create_app",
        factory=True,
        log_config=None,  # configure_logging does it
        access_log=False,  # the application logs its requests itself
        http=f"{__package__}.http.protocol:Protocol",  # of httptools
        ws="none",
        root_path=settings.root_path,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        timeout_keep_alive=settings.keep_alive,
        server_header=False,
        headers=FOR_ALL_RESPONSES,
    )


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Return what TLS is spoken with, or None if it is not.

    Raises
    ------
    CannotStart
        If a file cannot be read, or does not have what it should.
    """
    if not settings.tls_certificate:
        if settings.tls_key:
            raise CannotStart("tls_key is set, but not tls_certificate: set both, or none")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    files = [file for file in (settings.tls_certificate, settings.tls_key) if file]
    try:
        for file in files:
            Path(file).open("rb").close()  # OpenSSL's error does not say which one
        # without a password of our own OpenSSL would ask for one on the terminal
        context.load_cert_chain(settings.tls_certificate, settings.tls_key or None, password="")
    except ssl.SSLError as error:
        reason = (error.reason or "unreadable").replace("_", " ").lower()
        raise CannotStart(
            f"TLS needs a certificate and its key in PEM, without a password; {' and '.join(files)}: {reason}"
        ) from None
    except OSError as error:
        raise CannotStart(f"Cannot read {error.filename} for TLS: {error.strerror}") from None
    return context


class Server(uvicorn.Server):
    """uvicorn's server, which ends without losing a request.

    Parameters
    ----------
    settings : Settings
    listeners : sequence of Listener
        Bound; they are closed when the server ends.
    """

    signals: tuple[int, ...] = (signal.SIGTERM, signal.SIGINT)

    def __init__(self, settings: Settings, listeners: Sequence[Listener]) -> None:
        super().__init__(configuration(settings))
        self._settings = settings
        self._listeners = listeners
        self._tls = tls_context(settings)
        self._is_urgent = False
        self._wake = asyncio.Event()

    # ---------------------------------------------------------------------------------------------------------- start

    async def startup(self, sockets: Any = None) -> None:  # noqa: ARG002  (they are in the listeners)
        """Start the application, then accept connections."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        await self.on_tick(0)  # sets the header Date
        self.servers = [await self._listen(listener) for listener in self._listeners]
        self.started = True
        self.announce()

    def announce(self) -> None:
        """Say where clients can connect."""
        log_addresses(self._listeners)

    async def _listen(self, listener: Listener) -> asyncio.Server:
        config, state = self.config, self.lifespan.state
        if listener.is_management:
            config = copy.copy(config)
            config.loaded_app = ProxyHeadersMiddleware(state[MANAGEMENT], config.forwarded_allow_ips)
            state = {**state, CONNECTIONS: state[MANAGEMENT_CONNECTIONS]}
        protocol: Callable[..., asyncio.Protocol] = config.http_protocol_class
        tls = None if listener.path else self._tls
        return await asyncio.get_running_loop().create_server(
            functools.partial(protocol, config=config, server_state=self.server_state, app_state=state),
            sock=listener.socket,
            ssl=tls,
            ssl_handshake_timeout=self._settings.header_timeout if tls else None,
            backlog=BACKLOG,
        )

    async def main_loop(self) -> None:
        """Serve until the server is asked to end."""
        while not self.should_exit:
            await self.on_tick(0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._wake.wait()

    # ------------------------------------------------------------------------------------------------------------ end

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End on SIGTERM and SIGINT; a second SIGINT waits for nothing."""
        loop = asyncio.get_running_loop()
        for each in self.signals:
            signal.signal(each, lambda received, _: loop.call_soon_threadsafe(self.on_signal, received))
        try:
            yield
        finally:
            for each in self.signals:
                signal.signal(each, signal.SIG_IGN)  # it ends anyway

    def on_signal(self, received: int) -> None:
        """Take a signal."""
        if self.should_exit and received == signal.SIGINT:
            self.force_exit = True
        elif not self.should_exit:
            if self.started:
                self.say_not_ready()
            self.end(at_once=received == signal.SIGINT)

    @property
    def is_ready(self) -> bool:
        """Whether the health checks say that the service is ready."""
        return bool(self.lifespan.state[READINESS].is_ready)

    def say_not_ready(self) -> None:
        """Let the health checks say from now on that the service is not ready, and responses close connections."""
        self.lifespan.state[READINESS].is_ready = False
        self._close_after_responses()

    def end(self, *, at_once: bool = False) -> None:
        """Finish what was begun, then end.

        Parameters
        ----------
        at_once : bool
            Do not wait for requests on connections that are idle.
        """
        self._is_urgent = at_once
        self.should_exit = True
        self._wake.set()

    async def shutdown(self, sockets: Any = None) -> None:  # noqa: ARG002
        """Stop accepting, finish the requests in progress, and end the application."""
        self._close_after_responses()
        await self.stop_accepting()
        asyncio.get_running_loop().call_later(0 if self._is_urgent else IDLE_SECONDS, self._end_idle_connections)
        try:
            async with asyncio.timeout(self._settings.graceful_shutdown):
                if self._tls and not self._is_urgent:
                    # a connection whose handshake is not complete is not counted yet
                    await self._until(lambda: False, IDLE_SECONDS)
                await self._until(lambda: not self.server_state.connections and not self.server_state.tasks)
        except TimeoutError:
            logger.error("Cancelled %d requests that did not finish in time", len(self.server_state.tasks))
            for task in self.server_state.tasks:
                task.cancel()
            await self._until(lambda: not self.server_state.tasks, GIVING_UP_SECONDS)
        if not self.force_exit:
            await self.lifespan.shutdown()

    def _close_after_responses(self) -> None:
        for name in (CONNECTIONS, MANAGEMENT_CONNECTIONS):
            self.lifespan.state[name].begin_shutdown()

    def _end_idle_connections(self) -> None:
        for connection in list(self.server_state.connections):
            connection.shutdown()

    async def stop_accepting(self) -> None:
        """Accept what has been queued, and close the sockets, after the delay of the settings."""
        if not self._is_urgent:
            await self._until(lambda: False, self._settings.shutdown_delay)
        self.stop_queueing()
        await self.empty_queues()
        self.close_listeners()

    def stop_queueing(self) -> None:
        """Let the system take no more connections."""
        for listener in self._listeners:
            listener.stop_queueing()

    async def empty_queues(self) -> None:
        """Accept what has been queued."""
        with selectors.DefaultSelector() as queues:
            for listener in self._listeners:
                queues.register(listener.socket, selectors.EVENT_READ)
            while queues.select(0):
                await asyncio.sleep(0)  # the event loop accepts
        await asyncio.sleep(POLLING_SECONDS)  # some turns of the event loop, in which they become connections

    def close_listeners(self) -> None:
        """Accept nothing any more."""
        for server in self.servers:
            server.close()
        for listener in self._listeners:
            listener.socket.close()

    async def _until(self, condition: Callable[[], bool], seconds: float = float("inf")) -> None:
        """Wait for a condition, but not longer than a time, nor once nothing is to be waited for."""
        end = asyncio.get_running_loop().time() + seconds
        while not condition() and not self.force_exit and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(POLLING_SECONDS)
