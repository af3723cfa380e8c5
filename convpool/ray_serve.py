"""The service on Ray Serve, for those who run Ray already: ``serve run convpool.ray_serve:app replicas=4``.

Needs ``pip install 'convpool[ray]'`` on every node. Each replica is one process with the whole service in it. The
settings are the service's own, from the environment of the process that deploys; docs/scaling.md says which of them
Ray replaces.
"""
# No "from __future__ import annotations": Ray makes an Arguments of the arguments only if the annotation is the class.

import copy
import logging
import math
from http import HTTPStatus
from typing import Any

import ray
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from ray import serve
from ray.serve import Application
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.app import create_app
from service.http.error_responses import error_response
from service.http.security_headers import FOR_ALL_RESPONSES
from service.observability.logs import FORMATTERS
from service.observability.request_ids import REQUEST_ID, request_id
from service.problems import RETRY_AFTER_SECONDS, Busy
from service.settings import PREFIX, Settings

__all__ = ["Arguments", "ProxyProblems", "Replica", "app", "proxy_middlewares"]

WITHOUT_EFFECT = frozenset(
    {
        "host",
        "port",
        "uds",
        "management_host",
        "tls_certificate",
        "tls_key",
        "forwarded_allow_ips",
        "workers",
        "root_path",
        "header_timeout",
        "send_timeout",
        "max_connections",
        "keep_alive",
    }
)
"""Settings of the service's own server, in whose place Ray's is."""

MIN_DRAINING_SECONDS = 1.0
"""How long a replica that is to end stays, at least, for requests that a proxy has already sent it."""

SPARE_SECONDS = 5.0
"""How much longer than its requests a replica may take to end, before it is killed."""

DROPPED = b"Request dropped"
"""What the body of Ray's refusal begins with."""

X_REQUEST_ID = b"x-request-id"

ADDED = [(name.lower().encode(), value.encode()) for name, value in FOR_ALL_RESPONSES]

logger = logging.getLogger("convpool")


class Arguments(BaseModel):
    """What ``serve run`` takes after the import path, and a Serve config below ``args``.

    Parameters
    ----------
    replicas : int
        How many there are; the least number of them if ``max_replicas`` is given.
    max_replicas : int, optional
        If given, Ray adds and removes replicas by the number of requests in progress.
    target_ongoing_requests : float, optional
        How many requests in progress a replica should have on average; by default two for each of its compute threads.
    upscale_delay_s, downscale_delay_s : float
        Seconds for which there must be more, or fewer, requests than that.
    max_queued_requests : int, optional
        How many requests may wait in each proxy for a replica, beyond which it answers 503; by default as many as one
        replica takes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    replicas: PositiveInt = 1
    max_replicas: PositiveInt | None = None
    target_ongoing_requests: PositiveFloat | None = None
    upscale_delay_s: NonNegativeFloat = 30.0
    downscale_delay_s: NonNegativeFloat = 600.0
    max_queued_requests: PositiveInt | None = None

    @model_validator(mode="after")
    def _are_a_range(self) -> "Arguments":
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(
                f"max_replicas is at least replicas; got {self.max_replicas}, and {self.replicas} replicas: raise "
                "max_replicas, or leave it out for a fixed number"
            )
        return self


class ReplicaApplication:
    """The service's application as a replica of Ray's calls it.

    Ray sends each message of a response to the proxy by pickle, which knows no memoryview, and adds the request's id
    to every response, which would be there twice.

    Parameters
    ----------
    app : FastAPI
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self.routes, self.router = app.routes, app.router  # Ray names the requests in its metrics by them

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        known = {value for name, value in scope["headers"] if name == X_REQUEST_ID}

        async def adapted_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [field for field in message["headers"] if field[0] != X_REQUEST_ID or field[1] not in known]
                message = {**message, "headers": [*own, *ADDED]}
            elif not isinstance(message.get("body", b""), bytes):
                message = {**message, "body": bytes(message["body"])}
            await send(message)

        await self._app(scope, receive, adapted_send)


@serve.deployment(name="convpool")
@serve.ingress()
class Replica:
    """One replica: the service, with as many compute threads as Ray has given it processors.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        processors = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
        self._settings = settings.model_copy(update={"compute_threads": max(1, math.ceil(processors)), "workers": 1})
        _log_to_stderr(self._settings)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Return what serves the requests."""
        return ReplicaApplication(create_app(self._settings))

    async def check_health(self) -> None:
        """Raise an error if the service does not say that it is ready; Ray then replaces this replica.

        Ray calls this on the event loop that serves, so that one which no longer runs is noticed too.
        """
        statuses: list[int] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        path = "/health/ready"
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [],
        }
        await self.app(scope, receive, send)  # type: ignore[attr-defined]  # serve.ingress adds it
        if statuses != [200]:
            raise RuntimeError(f"{path} answers {statuses}, not 200")


def app(arguments: Arguments) -> Application:
    """Return the application for ``serve run`` and ``serve deploy``.

    Parameters
    ----------
    arguments : Arguments
    """
    settings = Settings()
    unused = sorted(WITHOUT_EFFECT & settings.model_fields_set)
    if unused:
        names = ", ".join(f"{PREFIX}{name.upper()}" for name in unused)
        logger.warning("Without effect on Ray Serve, whose own server is in the place of convpool's: %s", names)
    # the default is the processors of this machine, which may be another one, and does other things
    threads = settings.compute_threads if "compute_threads" in settings.model_fields_set else 1
    scaling: dict[str, Any] = {"num_replicas": arguments.replicas}
    if arguments.max_replicas is not None:
        scaling = {
            "autoscaling_config": {
                "min_replicas": arguments.replicas,
                "max_replicas": arguments.max_replicas,
                "target_ongoing_requests": arguments.target_ongoing_requests or 2.0 * threads,
                "upscale_delay_s": arguments.upscale_delay_s,
                "downscale_delay_s": arguments.downscale_delay_s,
            }
        }
    deployment = Replica.options(  # type: ignore[attr-defined]  # serve.deployment adds it
        **scaling,
        ray_actor_options={"num_cpus": threads},
        max_ongoing_requests=settings.max_requests,
        max_queued_requests=arguments.max_queued_requests or settings.max_requests,
        backpressure_config={"status_code": 503, "retry_after_s": RETRY_AFTER_SECONDS},
        graceful_shutdown_wait_loop_s=max(MIN_DRAINING_SECONDS, settings.shutdown_delay),
        graceful_shutdown_timeout_s=settings.graceful_shutdown + settings.shutdown_delay + SPARE_SECONDS,
    )
    built: Application = deployment.bind(settings)
    return built


def _log_to_stderr(settings: Settings) -> None:
    """Let the service's own lines go where the settings say, and nothing else be changed: Ray has its own log."""
    handler = logging.StreamHandler()
    handler.setFormatter(FORMATTERS[settings.log_format]())
    logger.addHandler(handler)
    logger.setLevel(settings.log_level.upper() if settings.log_level != "trace" else 5)
    logger.propagate = False


# --------------------------------------------------------------------------------------------------------- the proxies


def proxy_middlewares() -> list[Middleware]:
    """Return what makes problem documents of the errors of Ray's own.

    ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=convpool.ray_serve:proxy_middlewares``, in the environment of
    ``ray start`` on every node, puts it into Ray's proxies.
    """
    return [Middleware(ProxyProblems)]


class ProxyProblems:
    """Answers in Ray's place where no replica takes a request, or where it had the request and has ended.

    Ray answers with a line of text: 503 where too many requests wait, and 500 where the replica has ended, although
    every request of convpool may be sent again. Here both are 503, with ``Retry-After`` and a problem document.

    Parameters
    ----------
    app : ASGI application
        Ray's proxy.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_started = is_gone = False
        refusal: Message | None = None

        async def watched_receive() -> Message:
            nonlocal is_gone
            message = await receive()
            is_gone = is_gone or message["type"] == "http.disconnect"
            return message

        async def watched_send(message: Message) -> None:
            nonlocal has_started, refusal
            if message["type"] == "http.response.start" and message["status"] == HTTPStatus.SERVICE_UNAVAILABLE:
                refusal = message  # whose it is, the body will tell
                return
            if refusal is not None and not has_started:
                if bytes(message.get("body", b"")).startswith(DROPPED):
                    return
                await send(refusal)
            has_started = True
            await send(message)

        await self._app(scope, watched_receive, watched_send)
        if has_started or is_gone:
            return
        if refusal is not None:
            busy = Busy.busy("as many requests as may wait for a replica", "fewer")
        else:
            busy = Busy.of("", "the replica has ended", got="an unfinished request", expected="another try elsewhere")
        await _refuse(busy, scope, receive, send)


async def _refuse(busy: Busy, scope: Scope, receive: Receive, send: Send) -> None:
    scope = copy.copy(scope)
    own_id = request_id(scope["headers"])
    scope["state"] = {REQUEST_ID: own_id}
    response = error_response(Request(scope), busy)
    response.raw_headers += [(X_REQUEST_ID, own_id), *ADDED]
    await response(scope, receive, send)
