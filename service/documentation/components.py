"""Components of /openapi.json: what has a title is described once, by that name, and referred to everywhere else.

Generators of clients make a type of each component, and of a schema that is none one type for each place where it is.
"""

from __future__ import annotations

from typing import Any

__all__ = ["with_components"]

NO_SCHEMAS = ("example", "examples", "enum")
"""Members whose values are data, in which a title is only a title."""


def with_components(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document in which every schema with a title is a component, and a reference where it was.

    Parameters
    ----------
    document : dict
        OpenAPI document, whose schemas may be nested.

    Raises
    ------
    ValueError
        If two schemas that differ have the same title.
    """
    schemas: dict[str, Any] = {}

    def referring(value: Any) -> Any:
        if isinstance(value, list):
            return [referring(item) for item in value]
        if not isinstance(value, dict):
            return value
        content = {name: child if name in NO_SCHEMAS else referring(child) for name, child in value.items()}
        title = content.get("title")
        if not isinstance(title, str):  # a schema may have a property of that name
            return content
        del content["title"]
        if schemas.setdefault(title, content) != content:
            raise ValueError(f"there is another schema with the title {title}")
        return {"$ref": f"#/components/schemas/{title}"}

    paths, components = referring(document["paths"]), referring(document["components"])
    return {**document, "paths": paths, "components": {**components, "schemas": dict(sorted(schemas.items()))}}
