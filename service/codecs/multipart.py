"""Forms as curl and browsers send them: an npy file for each operand, a field for each parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from multipart import MultipartError, MultipartSegment, PushMultipartParser
from numpy.typing import NDArray

from service.codecs.message import Codec, Decoded, Limits
from service.codecs.npy import decode_npy
from service.codecs.text import parse_text_parameters
from service.problems import InvalidRequest, UnreadablePayload

__all__ = ["MultipartCodec"]

MOST_PARTS = 64


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
        parsing = PushMultipartParser(boundary, max_segment_count=MOST_PARTS, header_charset="latin-1", strict=True)
        with parsing as parser:
            name = ""
            chunks: list[bytes] = []
            for event in parser.parse(bytes(body)):
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
            expected=f"the parts that the Content-Type's boundary announces, at most {MOST_PARTS}",
        ) from None


def _text(content: bytes) -> str | bytes:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content  # most likely a file under a wrong name
