"""Forms: however their parts and the chunks that the parser gets lie, each part is what was sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.codecs import multipart
from service.codecs.message import Limits, RequestContext
from service.codecs.multipart import MultipartCodec
from service.problems import UnreadablePayload
from tests.service import payloads
from tests.service.calls import INPUT
from tests.strategies import thorough_settings

CODEC = MultipartCodec()
CONTEXT = RequestContext(("input", "weight"), {"boundary": "limit"})
TEXTS = st.lists(
    st.sampled_from(
        [b"\r", b"\n", b"\r\n", b"-", b"--", b"--limit", b"\r\n--limi", b"\r\n\r\n", b"limit", b" ", b"x" * 9]
    ),
    max_size=8,
).map(b"".join)
"""Contents of fields that look like what is between parts, but not quite."""


@thorough_settings
@given(
    st.lists(TEXTS.filter(lambda text: b"\r\n--limit" not in b"\r\n" + text), max_size=5),
    st.sampled_from([1, 2, 3, 5, 7, 20, 10**6]),
    st.sampled_from([b"", b" ", b" \t "]),
    st.sampled_from([b"", b"\r\n", b"\r\nepilogue"]),
)
def test_parts_are_read_from_chunks_of_any_size(
    contents: list[bytes], chunk_bytes: int, blanks: bytes, after: bytes
) -> None:
    parts = [payloads.field_part(f"p{index}", "") for index in range(len(contents))]
    form = b"".join(
        b"--limit" + blanks + b"\r\n" + header.encode() + b"\r\n\r\n" + content + b"\r\n"
        for (header, _), content in zip(parts, contents, strict=True)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multipart, "CHUNK_BYTES", chunk_bytes + len(b"--limit  \t  \r\n"))  # the first holds a boundary
        read = multipart._parts(bytearray(form + b"--limit--" + blanks + after), "limit") if contents else []
    assert [(part.name, bytes(part.content), part.has_file) for part in read] == [
        (f"p{index}", content, False) for index, content in enumerate(contents)
    ]


def test_the_length_of_a_part_is_checked_where_it_is_sent() -> None:
    content = payloads.npy_bytes(INPUT)
    for length, is_right in ((len(content), True), (len(content) - 1, False), (len(content) + 1, False)):
        header, _ = payloads.file_part("input", b"")
        body = bytearray(payloads.multipart_parts([(f"{header}\r\nContent-Length: {length}", content)]))
        if is_right:
            read = CODEC.decode(body, CONTEXT, Limits(0, lambda _: None)).tensors["input"]
            assert read.tobytes() == INPUT.tobytes()
        else:
            with pytest.raises(UnreadablePayload):
                CODEC.decode(body, CONTEXT, Limits(0, lambda _: None))


def test_a_field_is_charged_and_a_file_is_not() -> None:
    charges: list[int] = []
    parts = [payloads.file_part("input", payloads.npy_bytes(INPUT)), payloads.field_part("stride", "[2,1]")]
    decoded = CODEC.decode(bytearray(payloads.multipart_parts(parts)), CONTEXT, Limits(0, charges.append))
    assert decoded.parameters == {"stride": [2, 1]}
    assert sum(charges) == 2 * len("[2,1]")
