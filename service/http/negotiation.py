"""Choice of the payload formats: Content-Type decides how the body is read, Accept how the answer is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mimeparse

from service.codecs import CODECS, Codec
from service.operations.operation import Operation
from service.problems import NotAcceptable, UnsupportedMediaType

__all__ = [
    "JSON",
    "WRITABLE",
    "RequestFormat",
    "answer_codec",
    "readable_media_types",
    "refuse_unwritable",
    "request_format",
]

JSON, NPY, NPZ = "application/json", "application/x-npy", "application/x-npz"
FORM = "application/x-www-form-urlencoded"
MAX_HEADER = 1024
"""Characters of an Accept or a Content-Type that are read at all: parsing takes time by the square of the length."""

WRITABLE = tuple(media_type for media_type, codec in CODECS.items() if codec.writes)


@dataclass(frozen=True)
class RequestFormat:
    """A codec, and the parameters of the Content-Type header."""

    codec: Codec
    options: Mapping[str, str]


def readable_media_types(operation: Operation) -> tuple[str, ...]:
    """Return the media types of an operation's requests; a format for one tensor is read only where one is needed."""
    single = len(operation.required_operands) == 1
    return tuple(media_type for media_type, codec in CODECS.items() if single or not codec.holds_one_tensor)


def request_format(content_type: str | None, readable: Sequence[str]) -> RequestFormat:
    """Return how the body is to be read, if its media type is one of the readable ones.

    Raises
    ------
    UnsupportedMediaType
    """
    try:
        main, sub, options = mimeparse.parse_mime_type((content_type or "")[:MAX_HEADER])
    except mimeparse.MimeTypeParseException:
        main, sub, options = "", "", {}
    media_type = f"{main}/{sub}".lower()
    charset = options.get("charset", "utf-8").lower().replace("_", "-")
    expected = f"Content-Type: {' or '.join(readable)}"
    if media_type in readable:
        if media_type == JSON and charset not in ("utf-8", "utf8", "us-ascii"):
            reason = "JSON is read in UTF-8 only, and the Content-Type names another charset"
            raise UnsupportedMediaType.of("", f"{reason}; needed: {expected}", got="another charset", expected=expected)
        return RequestFormat(CODECS[media_type], options)
    got = FORM if media_type == FORM else "another Content-Type" if content_type else "nothing"
    if media_type == FORM:
        reason = (
            "a form without files is not read; curl -d sends this Content-Type unless another is given: add -H "
            "'Content-Type: application/json' for JSON, or the file's own and --data-binary in place of -d for a file"
        )
    elif media_type in CODECS and CODECS[media_type].holds_one_tensor:
        reason = "this format holds one tensor and the operation needs several"
    else:
        reason = "the Content-Type is missing or is none that this call reads"
    raise UnsupportedMediaType.of("", f"{reason}; needed: {expected}", got=got, expected=expected)


def refuse_unwritable(accept: str | None, writable: Sequence[str]) -> None:
    """Raise NotAcceptable if no answer format at all is acceptable, before any work is done."""
    _best(list(writable), accept)


def answer_codec(accept: str | None, request_codec: Codec, results: int) -> Codec:
    """Return the codec of an answer: what Accept prefers, else JSON for JSON, else npy for one result, npz for several.

    Raises
    ------
    NotAcceptable
    """
    default = JSON if request_codec.media_type == JSON else NPY if results == 1 else NPZ
    available = [media_type for media_type in WRITABLE if results == 1 or not CODECS[media_type].holds_one_tensor]
    # the last one wins among equals
    available.sort(key=lambda media_type: (media_type == default, CODECS[media_type].holds_one_tensor))
    return CODECS[_best(available, accept)]


def _best(available: list[str], accept: str | None) -> str:
    if accept is None or not accept.strip():
        return available[-1]
    parts = accept.lower().split(",") if len(accept) <= MAX_HEADER else []
    ranges = [part for part in parts if _is_media_range(part)]
    best = str(mimeparse.best_match(available, ",".join(ranges))) if ranges else ""
    if not best:
        expected = f"Accept: {' or '.join(available)}"
        message = f"no format that this answer can have is acceptable; needed: {expected}"
        raise NotAcceptable.of("", message, got="another Accept", expected=expected)
    return best


def _is_media_range(text: str) -> bool:
    """Return whether a member of Accept can be read; one that cannot does not spoil the others."""
    try:
        mimeparse.parse_media_range(text)
    except (mimeparse.MimeTypeParseException, ValueError):
        return False
    return True
