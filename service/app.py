"""The application: settings in, an ASGI application out."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.responses import HTMLResponse, RedirectResponse

from cnn_core import __version__

from .documentation import openapi as documentation
from .http.access_log import AccessLogMiddleware
from .http.draining import DrainingMiddleware
from .http.error_responses import install_error_handlers
from .http.head import HeadMiddleware
from .operations.execution import ComputePool
from .routes import build_router
from .settings import Settings

__all__ = ["create_app"]

OBJECTS_BETWEEN_COLLECTIONS = 100_000
"""With Python's default of some hundred, the garbage collector walks over the lists of a large JSON body again and
again while they are created, which takes longer than parsing them."""


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the service as an ASGI application.

    Parameters
    ----------
    settings : Settings, optional
        Read from the environment if not given.
    """
    settings = settings or Settings()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.pool = ComputePool(settings)
        thresholds = gc.get_threshold()
        gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS, *thresholds[1:])
        yield
        gc.set_threshold(*thresholds)
        app.state.pool.close()

    # the page's scripts and styles come from the package, not from a content delivery network; not the page, which
    # would ask for them by absolute paths, and a proxy may have the service under a path of its own
    app: FastAPI = FastAPIOffline(
        docs_url=None,
        redoc_url=None,
        title="convpool",
        description=documentation.description(),
        version=__version__,
        lifespan=lifespan,
        openapi_tags=documentation.TAGS,
        servers=documentation.SERVERS,
        root_path_in_servers=False,
    )
    # Swagger UI takes three times as long to open an operation of a document that is OpenAPI 3.1
    app.openapi_version = "3.0.3"
    app.add_middleware(HeadMiddleware)
    app.add_middleware(DrainingMiddleware)
    app.add_middleware(AccessLogMiddleware)  # the last one added is the outermost
    install_error_handlers(app)
    app.include_router(build_router(settings))
    app.add_api_route("/docs", lambda: HTMLResponse(documentation.PAGE), include_in_schema=False)
    app.add_api_route("/docs/", lambda: RedirectResponse("../docs"), include_in_schema=False)
    app.add_api_route("/", lambda: RedirectResponse("docs"), include_in_schema=False)
    _add_components(app)
    return app


def _add_components(app: FastAPI) -> None:
    """Add the schemas that the routes' own documentation refers to."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        schema = generate()
        schema["components"] = documentation.components()
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
