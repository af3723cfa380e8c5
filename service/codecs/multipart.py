"""Forms as curl and browsers send them: an npy file for each operand, a field for each parameter."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

from multipart import MultipartError, MultipartSegment, PushMultipartParser
from numpy.typing import NDArray

from ..problems import InvalidRequest, UnreadablePayload
from .codec import Codec
from .described import BINARY, DescribedOperation, ExampleFile, as_text, command
from .media_types import FORM_DATA, JSON
from .message import Decoded, Limits, RequestContext
from .npy import MAGIC, decode_npy, npy_files
from .steps import find, find_all, steps
from .text import MAX_VALUE, parse_text_parameters

__all__ = ["MAX_PARTS", "MultipartCodec", "Part", "broken_form", "content_of"]

MAX_PARTS = 64
CHUNK_BYTES = 2**16
MAX_FIELD = 4 * MAX_VALUE + 4
"""Bytes that are looked at of a field: any text that is not too long, and one more character."""

HEADERS_END = b"\r\n\r\n"
PADDING = re.compile(rb"(?:--)?([ \t]++)(?=\r\n|\Z)")
"""Blanks between a boundary and the end of its line, which receivers must accept (RFC 2046, section 5.1.1).
Possessive: backtracking would take memory for every blank."""


class Part(NamedTuple):
    """A part of a form: its name, its content as a view of the body, and whether it is a file."""

    name: str
    content: memoryview
    has_file: bool


class MultipartCodec(Codec):
    """Operands as npy parts and parameters as text fields; a request format only."""

    media_type: ClassVar[str] = FORM_DATA
    title: ClassVar[str] = "a form of npy files"
    parameters_in: ClassVar[str] = "in form fields"
    responds_in_kind: ClassVar[bool] = False

    def can_write(self, results: int) -> bool:  # noqa: D102
        return False

    def decode(self, body: bytearray, request: RequestContext, limits: Limits) -> Decoded:  # noqa: D102
        return content_of(_parts(body, request.options.get("boundary", "")), request.operands, limits)

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
        # without a title: openapi-generator refers to a named form, but makes no type of it
        return {"schema": {"type": "object", "properties": files, "required": operation.required_operands}}


def content_of(parts: Iterable[Part], operands: Sequence[str], limits: Limits) -> Decoded:
    """Return what the parts of a form hold: operands by their names, and parameters.

    Raises
    ------
    UnreadablePayload, InvalidRequest
    """
    tensors: dict[str, NDArray[Any]] = {}
    fields: list[tuple[str, str | bytes]] = []
    for name, content, has_file in parts:
        if name not in operands:
            limits.charge(2 * min(len(content), MAX_FIELD))
            fields.append((name, _text(bytes(content[:MAX_FIELD]))))
        elif not content:
            continue  # a file that was not chosen in a browser's form
        elif name in tensors:
            fault = f"{name} is in the form more than once"
            raise InvalidRequest.of(f"/{name}", fault, got="two parts", expected="one part")
        elif not has_file and content[: len(MAGIC)] != MAGIC:
            fault, hint = f"{name} is a field of text", f"with curl an @ sends the file: -F {name}=@{name}.npy"
            raise UnreadablePayload.of(f"/{name}", fault, got="text", expected="an npy file", hint=hint)
        else:
            tensors[name] = decode_npy(content, name, limits)
    return Decoded(tensors, parse_text_parameters(fields))


def broken_form() -> UnreadablePayload:
    """Return the problem of a body that is not a form."""
    return UnreadablePayload.of(
        "",
        "the body is not readable multipart/form-data: its boundary, a header or its end is missing or broken",
        got="a broken form",
        expected=f"the parts that the Content-Type's boundary announces, at most {MAX_PARTS}",
    )


def _parts(body: bytearray, boundary: str) -> list[Part]:
    """Return the parts of a form.

    The parser copies what it is given. So it is given one chunk of the body after the other, and says how long each
    part is.
    """
    parts = []
    try:
        # latin-1 reads any bytes: a file's own name, which nobody asks for, may be in any encoding
        parsing = PushMultipartParser(boundary, max_segment_count=MAX_PARTS, header_charset="latin-1", strict=True)
        with parsing as parser:
            delimiter = b"\r\n--" + parser.boundary
            start = end = max(0, find(body, delimiter[2:], 0, len(body)))  # there may be text before the first part
            name, has_file, is_complete = "", False, False
            for chunk in _chunks(body, delimiter):
                for event in parser.parse(chunk):
                    if isinstance(event, MultipartSegment):
                        name, has_file = event.name, event.filename is not None
                        start = end = find(body, HEADERS_END, end, len(body)) + len(HEADERS_END)
                    elif event is not None:
                        end += len(event)
                    else:
                        parts.append(Part(name, memoryview(body)[start:end], has_file))
                        is_complete = body.startswith(b"--", end + len(delimiter))
                if is_complete:
                    break  # what follows the last part is nothing that the parser takes
    except MultipartError:
        raise broken_form() from None
    return parts


def _chunks(body: bytearray, delimiter: bytes) -> Iterator[bytes]:
    """Yield the body in chunks, without the blanks at the ends of its boundary lines: the parser does not take them."""
    start = 0
    for end in itertools.islice(_delimiter_ends(body, delimiter), MAX_PARTS + 1):  # the parser refuses more
        if match := PADDING.match(body, end):
            yield from _slices(body, start, match.start(1))
            start = match.end(1)
    yield from _slices(body, start, len(body))


def _delimiter_ends(body: bytearray, delimiter: bytes) -> Iterator[int]:
    if body.startswith(delimiter[2:]):
        yield len(delimiter) - 2
    for position in find_all(body, delimiter):
        yield position + len(delimiter)


def _slices(body: bytearray, start: int, end: int) -> Iterator[bytes]:
    for first, last in steps(start, end, CHUNK_BYTES):
        yield bytes(memoryview(body)[first:last])


def _text(content: bytes) -> str | bytes:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content  # most likely a file under a wrong name
