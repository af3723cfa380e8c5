"""Forms as curl and browsers send them: an npy file for each operand, a field for each parameter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar

from multipart import MultipartError, MultipartSegment, PushMultipartParser
from numpy.typing import NDArray

from ..problems import InvalidRequest, UnreadablePayload
from .codec import Codec
from .described import BINARY, DescribedOperation, ExampleFile, as_text, command
from .media_types import FORM_DATA, JSON
from .message import Decoded, Limits, RequestContext
from .npy import MAGIC, decode_npy, npy_files
from .text import parse_text_parameters

__all__ = ["MultipartCodec"]

MAX_PARTS = 64
PADDING = re.compile(rb"(?:--)?([ \t]++)(?=\r\n|\Z)")
"""Blanks between a boundary and the end of its line, which receivers must accept (RFC 2046, section 5.1.1).
Possessive: backtracking would take memory for every blank."""


class MultipartCodec(Codec):
    """Operands as npy parts and parameters as text fields; a request format only."""

    media_type: ClassVar[str] = FORM_DATA
    title: ClassVar[str] = "a form of npy files"
    parameters_in: ClassVar[str] = "in form fields"
    responds_in_kind: ClassVar[bool] = False

    def can_write(self, results: int) -> bool:  # noqa: D102
        return False

    def decode(self, body: bytearray, request: RequestContext, limits: Limits) -> Decoded:  # noqa: D102
        limits.charge(2 * len(body))  # the parser's copy, and the parts
        tensors: dict[str, NDArray[Any]] = {}
        fields: list[tuple[str, str | bytes]] = []
        for name, content, has_file in _parts(body, request.options.get("boundary", "")):
            if name not in request.operands:
                fields.append((name, _text(content)))
            elif not content:
                continue  # a file that was not chosen in a browser's form
            elif name in tensors:
                fault = f"{name} is in the form more than once"
                raise InvalidRequest.of(f"/{name}", fault, got="two parts", expected="one part")
            elif not has_file and not content.startswith(MAGIC):
                fault, hint = f"{name} is a field of text", f"with curl an @ sends the file: -F {name}=@{name}.npy"
                raise UnreadablePayload.of(f"/{name}", fault, got="text", expected="an npy file", hint=hint)
            else:
                tensors[name] = decode_npy(memoryview(content), name)
        return Decoded(tensors, parse_text_parameters(fields))

    def example_files(self, operation: DescribedOperation) -> dict[str, ExampleFile]:  # noqa: D102
        return npy_files(operation.example_operands)

    def curl_command(self, operation: DescribedOperation) -> str:  # noqa: D102
        parts = [f"-F {name}=@<(curl -s {operation.files_url}/{name}.npy)" for name in operation.example_operands]
        fields = [f"-F '{name}={as_text(value)}'" for name, value in operation.example_parameters.items()]
        return command(f"curl -s {operation.url}", f"-H 'Accept: {JSON}'", *parts, *fields)

    def request_content(self, operation: DescribedOperation) -> dict[str, Any]:  # noqa: D102
        files = {
            operand.name: {**BINARY, "description": f"An npy file. {operand.description}"}
            for operand in operation.operands
        }
        # parameters may be fields too, but a page would ask for them twice if they were documented twice
        return {"schema": {"type": "object", "properties": files, "required": operation.required_operands}}


def _parts(body: bytearray, boundary: str) -> Iterator[tuple[str, bytes, bool]]:
    """Yield the name and the content of each part, and whether it is a file."""
    try:
        # latin-1 reads any bytes: a file's own name, which nobody asks for, may be in any encoding
        parsing = PushMultipartParser(boundary, max_segment_count=MAX_PARTS, header_charset="latin-1", strict=True)
        with parsing as parser:
            name, has_file = "", False
            chunks: list[bytes] = []
            for event in parser.parse(_without_padding(body, parser.boundary)):
                if isinstance(event, MultipartSegment):
                    name, has_file, chunks = event.name, event.filename is not None, []
                elif event is not None:
                    chunks.append(event)
                else:
                    yield name, chunks[0] if len(chunks) == 1 else b"".join(chunks), has_file
    except MultipartError:
        raise UnreadablePayload.of(
            "",
            "the body is not readable multipart/form-data: its boundary, a header or its end is missing or broken",
            got="a broken form",
            expected=f"the parts that the Content-Type's boundary announces, at most {MAX_PARTS}",
        ) from None


def _without_padding(body: bytearray, boundary: bytes) -> bytes:
    """Return the body without the blanks at the ends of its boundary lines, which the parser does not take."""
    content = b"\r\n" + body  # so that the first boundary, too, follows a line end
    delimiter = b"\r\n--" + boundary
    slices: list[memoryview] = []
    start = position = 0
    for _ in range(MAX_PARTS + 1):  # the parser refuses more
        position = content.find(delimiter, position)
        if position < 0:
            break
        position += len(delimiter)
        if match := PADDING.match(content, position):
            slices.append(memoryview(content)[start : match.start(1)])
            start = match.end(1)
    return b"".join([*slices, memoryview(content)[start:]]) if slices else content


def _text(content: bytes) -> str | bytes:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content  # most likely a file under a wrong name
