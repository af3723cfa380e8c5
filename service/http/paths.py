"""The path of a request as the routes have it, behind a proxy that has the service under a prefix."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["KeptPrefixMiddleware", "route_path"]


def route_path(scope: Scope) -> str:
    """Return a request's path without the prefix under which a proxy has the service."""
    path, prefix = str(scope["path"]), scope.get("root_path", "")
    return path[len(prefix) :] if prefix and path.startswith(f"{prefix}/") else path


class KeptPrefixMiddleware:
    """Takes a prefix off that is there twice: the server puts it in front of every path, and some proxies leave it on.

    A path of the service that begins like the prefix would be there twice as well: then nothing is taken off.

    Parameters
    ----------
    app : ASGI application
    prefix : str
        As the setting ``root_path``.
    paths : iterable of str
        Those of the service.
    """

    def __init__(self, app: ASGIApp, prefix: str, paths: Iterable[str]) -> None:
        self._app = app
        self._prefix = prefix
        self._is_told_apart = not any(f"{path}/".startswith(f"{prefix}/") for path in paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        prefix = self._prefix
        if self._is_told_apart and scope["type"] == "http" and scope["path"].startswith(f"{prefix}{prefix}/"):
            scope["path"] = scope["path"].removeprefix(prefix)
            scope["raw_path"] = scope["raw_path"].removeprefix(prefix.encode())
        await self._app(scope, receive, send)
