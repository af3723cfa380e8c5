"""The routes under /v2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..codecs.v2 import MODEL_VERSION
from ..documentation import v2 as documentation
from ..http.readiness import Readiness
from ..operations.catalogue import OPERATIONS
from ..operations.operation import Operation
from ..settings import Settings
from . import models
from .handler import InferenceHandler

__all__ = ["build_v2_router", "inference_handlers"]

MODEL = "/v2/models/{model}"
VERSION = "/versions/{version}"


def inference_handlers(settings: Settings) -> dict[str, InferenceHandler]:
    """Return the handlers of the models by the paths at which they are called."""
    handlers = {operation.name: InferenceHandler(operation, settings) for operation in OPERATIONS}
    return {
        f"{path}/infer".format(model=name, version=MODEL_VERSION): handler
        for path in (MODEL, MODEL + VERSION)
        for name, handler in handlers.items()
    }


def build_v2_router(handlers: Mapping[str, InferenceHandler], readiness: Readiness) -> APIRouter:
    """Return the routes of the Open Inference Protocol.

    Parameters
    ----------
    handlers : mapping of str to InferenceHandler
        What ``inference_handlers`` returns.
    readiness : Readiness
    """

    def model_readiness(operation: Operation) -> Response:
        return _ready({"name": operation.name}, readiness)

    async def server_ready() -> Response:
        return _ready({"live": True}, readiness)

    router = APIRouter()
    infer = _infer_endpoint(handlers)
    described = (
        ("", _describing(models.metadata), documentation.model_route()),
        ("/config", _describing(models.config), documentation.config_route()),
        ("/ready", model_readiness, documentation.model_ready_route()),
    )
    for path, is_documented in ((MODEL, True), (MODEL + VERSION, False)):
        options: dict[str, Any] = {"include_in_schema": is_documented, **documentation.infer_route()}
        router.add_api_route(f"{path}/infer", infer, methods=["POST"], **options)
        for suffix, respond, route in described:
            options = {"include_in_schema": is_documented, **route}
            router.add_api_route(path + suffix, _model_endpoint(respond), methods=["GET"], **options)
    for method, path, content, route in (
        ("GET", "/v2", models.server_metadata(), documentation.server_route()),
        ("GET", "/v2/health/live", {"live": True}, documentation.live_route()),
        ("POST", "/v2/repository/index", models.index(), documentation.index_route()),
    ):
        router.add_api_route(path, _constant_endpoint(content), methods=[method], **route)
    router.add_api_route("/v2/health/ready", server_ready, methods=["GET"], **documentation.ready_route())
    return router


def _constant_endpoint(content: Any) -> Any:
    async def endpoint() -> Response:
        return JSONResponse(content)

    return endpoint


def _model_endpoint(respond: Callable[[Operation], Response]) -> Any:
    async def endpoint(request: Request) -> Response:
        return respond(models.model_called(**request.path_params))

    return endpoint


def _describing(describe: Callable[[Operation], dict[str, Any]]) -> Callable[[Operation], Response]:
    return lambda operation: JSONResponse(describe(operation))


def _ready(content: dict[str, Any], readiness: Readiness) -> Response:
    status = HTTPStatus.OK if readiness.is_ready else HTTPStatus.SERVICE_UNAVAILABLE
    return JSONResponse({**content, "ready": readiness.is_ready}, status)


def _infer_endpoint(handlers: Mapping[str, InferenceHandler]) -> Any:
    async def endpoint(request: Request) -> Response:
        operation = models.model_called(**request.path_params)
        return await handlers[f"{MODEL}/infer".format(model=operation.name)].respond(request)

    return endpoint
