"""The path of a request as the routes have it."""

from __future__ import annotations

from starlette.types import Scope

__all__ = ["route_path"]


def route_path(scope: Scope) -> str:
    """Return a request's path without the prefix under which a proxy has the service."""
    path, prefix = str(scope["path"]), scope.get("root_path", "")
    return path[len(prefix) :] if prefix and path.startswith(f"{prefix}/") else path
