"""Forms as curl and browsers send them: an npy file for each operand, a field for each parameter."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from multipart import MultipartError, MultipartSegment, PushMultipartParser
from numpy.typing import NDArray

from service.codecs.message import Codec, Decoded, Limits
from service.codecs.npy import decode_npy
from service.codecs.text import parse_text_parameters
from service.problems import InvalidRequest, UnreadablePayload

__all__ = ["MultipartCodec"]

MAX_PARTS = 64
PADDING = re.compile(rb"(?:--)?([ \t]++)(?=\r\n|\Z)")
"""What may stand between a boundary and the end of its line: RFC 2046, section 5.1.1, has receivers take blanks that
were added on the way. Possessive: a way back would take memory for every blank."""


class MultipartCodec(Codec):
    """Operands as npy parts and parameters as text fields; a request format only."""

    media_type: ClassVar[str] = "multipart/form-data"
    writes: ClassVar[bool] = False

    def decode(  # noqa: D102
        self, body: bytearray, operands: Sequence[str], options: Mapping[str, str], limits: Limits
    ) -> Decoded:
        limits.charge(2 * len(body))  # the parser's copy, and the parts
        tensors: dict[str, NDArray[Any]] = {}
        fields: list[tuple[str, str | bytes]] = []
        for name, content in _parts(body, options.get("boundary", "")):
            if name not in operands:
                fields.append((name, _text(content)))
            elif not content:
                continue  # a file that was not chosen in a browser's form
            elif name in tensors:
                raise InvalidRequest.of(
                    f"/{name}", f"{name} is in the form more than once", got="two parts", expected="one part"
                )
            else:
                tensors[name] = decode_npy(memoryview(content), name)
        return Decoded(tensors, parse_text_parameters(fields))


def _parts(body: bytearray, boundary: str) -> Iterator[tuple[str, bytes]]:
    try:
        # latin-1 reads any bytes: a file's own name, which nobody asks for, may be in any encoding
        parsing = PushMultipartParser(boundary, max_segment_count=MAX_PARTS, header_charset="latin-1", strict=True)
        with parsing as parser:
            name = ""
            chunks: list[bytes] = []
            for event in parser.parse(_without_padding(body, parser.boundary)):
                if isinstance(event, MultipartSegment):
                    name, chunks = event.name, []
                elif event is not None:
                    chunks.append(event)
                else:
                    yield name, chunks[0] if len(chunks) == 1 else b"".join(chunks)
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
    kept: list[memoryview] = []
    start = position = 0
    for _ in range(MAX_PARTS + 1):  # the parser refuses more
        position = content.find(delimiter, position)
        if position < 0:
            break
        position += len(delimiter)
        if match := PADDING.match(content, position):
            kept.append(memoryview(content)[start : match.start(1)])
            start = match.end(1)
    return b"".join([*kept, memoryview(content)[start:]]) if kept else content


def _text(content: bytes) -> str | bytes:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content  # most likely a file under a wrong name
