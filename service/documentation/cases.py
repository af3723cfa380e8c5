"""OpenAPI documentation of the golden cases of a layer."""

from __future__ import annotations

from typing import Any

from ..cases import WRITERS, CasesTask, cases_model
from ..codecs import JSON_CODEC
from ..codecs.described import BINARY, command, with_description
from ..codecs.media_types import JSON, NPZ
from .examples import SERVER
from .openapi import PROBLEMS, documented
from .parameters import titled, type_name, without_null
from .schemas import OBSERVED_HEADERS, model_schema

__all__ = ["cases_route"]

EXAMPLES: dict[str, dict[str, Any]] = {
    "conv": {"parameters": {"stride": [1, 2], "padding": "any"}, "shapes": {"input": [1, [5, 9], [5, 9], 2]}},
    "pool": {"parameters": {"mode": ["max", "avg"], "kernel_size": [2, 3], "padding": [0, 1]}},
}
"""Requests that show more than the number of cases, by layer."""


def cases_route(task: CasesTask) -> dict[str, Any]:
    """Return the documentation of the route of golden cases."""
    entry = task.entry
    schema = {**model_schema(cases_model(entry)), "title": f"{type_name(task.name)}Request"}
    family = "integer_cases" if entry.operands[0].dtypes else "cases"
    for name, member in schema["properties"].items():  # without defaults, as all requests
        values = without_null({key: value for key, value in member.items() if key not in ("default", "description")})
        title = type_name(f"{family}_{name}")
        values = {"title": title, **values} if values.get("type") == "object" else titled(values, title)
        schema["properties"][name] = with_description(values, member["description"])
    example = {**EXAMPLES.get(entry.name, {}), "count": 3, "seed": 1}
    response = {writer.media_type: {"schema": MANIFEST if writer.media_type == JSON else BINARY} for writer in WRITERS}
    arguments = documented(task.name, f"{entry.title}, golden cases", _description(task), response, entry.name)
    extra = arguments["openapi_extra"]
    extra["requestBody"] = {
        "required": True,
        "content": {JSON_CODEC.media_type: {"schema": schema, "example": example}},
    }
    extra["responses"]["200"]["headers"] = OBSERVED_HEADERS
    extra["responses"] |= PROBLEMS
    return arguments


MANIFEST = {
    "title": "Cases",
    "type": "object",
    "description": "The manifest, and each tensor by its name, such as case_0000/input.",
    "properties": {"manifest": {"title": "CasesManifest", "type": "object", "additionalProperties": True}},
    "required": ["manifest"],
    "additionalProperties": True,
}


def _description(task: CasesTask) -> str:
    media_types = ", ".join(writer.media_type for writer in reversed(WRITERS))
    curl = command(
        f"curl -s {SERVER}{task.path}",
        f"-H 'Content-Type: {JSON}' -H 'Accept: {NPZ}'",
        """-d '{"count": 100, "seed": 1}' -o cases.npz""",
    )
    return f"""
Complete cases to test a port with: operands, the results of forward and backward, and the parameters. They are drawn
from a seed: the same request gives the same bytes on every machine.

Accept: {media_types}; the first one by default. Tensors are called `case_0000/input`, `case_0000/output` and so on, and
`manifest` says what each case is and what a result may be off by.

```bash
{curl}
```
""".strip()
