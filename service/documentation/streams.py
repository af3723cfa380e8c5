"""OpenAPI documentation of the batches that are streamed."""

from __future__ import annotations

from typing import Any

from ..codecs.described import BINARY, as_text, command
from ..codecs.media_types import FORM_DATA, NPY
from ..http.responses import PARAMETERS_HEADER
from ..http.streaming import DUPLEX, stream_codecs
from ..operations.streams import StreamTask
from .described import described_operation
from .openapi import PROBLEMS, documented, result_headers
from .parameters import query_parameters

__all__ = ["stream_route"]

DUPLEX_PARAMETER = {
    "name": DUPLEX,
    "in": "query",
    "required": False,
    "description": "Say true if the client reads the response while it still sends the batch. The result may then have "
    "any size, and begins to come with the first images.",
    "schema": {"type": "boolean"},
}


def stream_route(task: StreamTask) -> dict[str, Any]:
    """Return the documentation of the route of an operation's streams."""
    operation = task.operation
    entry, described = operation.entry, described_operation(operation)
    codecs = stream_codecs(operation)
    title = f"{entry.title}, {operation.direction}, streamed"
    arguments = documented(task.name, title, _description(task), {NPY: {"schema": BINARY}}, entry.name)
    extra = arguments["openapi_extra"]
    extra["parameters"] = [*query_parameters(operation), DUPLEX_PARAMETER]
    extra["requestBody"] = {
        "required": True,
        "content": {codec.media_type: codec.request_content(described) for codec in codecs},
    }
    extra["responses"]["200"]["headers"] = result_headers()
    extra["responses"] |= PROBLEMS
    return arguments


def _description(task: StreamTask) -> str:
    operation, batch = task.operation, task.batch
    described = described_operation(operation)
    names = [name for name in described.example_operands if name != batch]
    parts = [f"-F {name}=@<(curl -s {described.files_url}/{name}.npy)" for name in (*names, batch)]
    fields = [f"-F '{name}={as_text(value)}'" for name, value in described.example_parameters.items()]
    curl = command(f"curl -s {described.url}/stream", *fields, *parts, "-o output.npy")
    alone = f"`{NPY}`: the batch, with parameters in the query string; or " if not names else ""
    return f"""
The same as `{operation.path}` for a batch of any size: it is computed image by image while it arrives, so that neither
side needs memory for all of it. An image, with its result and its work, keeps to the limits of a request.

* The body is {alone}`{FORM_DATA}` with `{batch}` as its **last** part, after all other operands and parameters. The
  batch is an npy file in C order.
* The response is an npy file with a Content-Length. If something goes wrong after it has begun, the connection ends
  before so many bytes have come.
* A client that sends everything before it reads gets a result of up to `CONVPOOL_MAX_RESULT_BYTES`. With
  `{DUPLEX}=true` it says that it reads while it sends, as curl does, and the result may have any size.
* The header `{PARAMETERS_HEADER}` has the parameters as they were resolved.

```bash
{curl}
```
""".strip()
