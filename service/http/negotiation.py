"""Choice of the payload formats: Content-Type decides how the body is read, Accept how the response is written."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mimeparse

from cnn_core.ops.base import Operand

from ..codecs import CODECS, Codec, Writer
from ..codecs.unreadable import SENT_BY_MISTAKE
from ..operations.operation import CatalogueEntry, Operation
from ..problems import NotAcceptable, UnsupportedMediaType
from ..settings import Settings

__all__ = [
    "RequestFormat",
    "best_media_type",
    "body_limit",
    "checkable_codecs",
    "readable_codecs",
    "refuse_unwritable",
    "request_format",
    "response_codec",
    "writable_codecs",
]

SHORT_AND_PLAIN = re.compile(r"(?=.{1,40}\Z)[\w*.+/-]+(?:(?:=|[;,] ?)[\w*.+/-]+)*", re.ASCII)
"""Media types with parameters, and no other text, that may be repeated in an error."""

MAX_HEADER = 1024
"""Maximum length of an Accept or a Content-Type, in characters: parsing takes time by the square of the length."""


MAX_CACHED = 256
"""Headers of one kind whose meaning is remembered: most clients send the same ones again and again."""


@dataclass(frozen=True)
class RequestFormat:
    """A codec, and the parameters of the Content-Type header."""

    codec: Codec
    options: Mapping[str, str]


def readable_codecs(operation: Operation) -> tuple[Codec, ...]:
    """Return the codecs that can hold an operation's operands."""
    return _codecs_for(len(operation.required_operands), operation.operands)


def checkable_codecs(entry: CatalogueEntry) -> tuple[Codec, ...]:
    """Return the codecs that can hold the operands of a layer and a tensor that is claimed."""
    return _codecs_for(len(entry.forward.required_operands) + 1, entry.operands)


def _codecs_for(count: int, operands: Sequence[Operand]) -> tuple[Codec, ...]:
    """Return the codecs that can hold at least so many tensors, and the types that operands have."""
    typed = any(operand.dtypes for operand in operands)
    return tuple(codec for codec in CODECS.values() if codec.can_read(count, typed=typed))


def writable_codecs(results: int = 1) -> tuple[Codec, ...]:
    """Return the codecs that can hold so many results."""
    return tuple(codec for codec in CODECS.values() if codec.can_write(results))


@functools.lru_cache(MAX_CACHED)
def request_format(content_type: str | None, readable: tuple[Codec, ...]) -> RequestFormat:
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
    expected = f"Content-Type: {' or '.join(codec.media_type for codec in readable)}"
    codec = _called(media_type, readable)
    if codec is not None:
        if codec.charset and not _is_charset(options.get("charset", codec.charset), codec.charset):
            fault = f"{codec.title} is read in {codec.charset.upper()} only"
            raise UnsupportedMediaType.of("", fault, got="another charset", expected=expected)
        return RequestFormat(codec, options)
    other = _called(media_type, tuple(CODECS.values()))
    hint = ""
    if media_type in SENT_BY_MISTAKE:
        fault, hint = SENT_BY_MISTAKE[media_type]
    elif other is not None and other.limitation:
        fault = f"this format {other.limitation}"
    else:
        fault = "the Content-Type is missing or is not one that this call reads"
    got = _shown("Content-Type", content_type)
    raise UnsupportedMediaType.of("", fault, got=got, expected=expected, hint=hint)


def _shown(name: str, value: str | None) -> str:
    """Return a header as it came, if it is short and plain enough to be sent back."""
    if not value:
        return "nothing"
    return f"{name}: {value}" if SHORT_AND_PLAIN.fullmatch(value) else f"another {name}"


def _called(media_type: str, codecs: Sequence[Codec]) -> Codec | None:
    return next((codec for codec in codecs if media_type in (codec.media_type, *codec.aliases)), None)


def _is_charset(written: str, charset: str) -> bool:
    """Return whether a charset is the one that a codec reads, or a part of it, as ASCII is of UTF-8."""
    written = written.lower().replace("_", "-")
    return written in (charset, charset.replace("-", "")) or (charset == "utf-8" and written == "us-ascii")


def body_limit(codec: Codec, settings: Settings) -> int:
    """Return the maximum size of a body in a format."""
    if codec.charset:  # text
        return min(settings.max_json_bytes, settings.max_body_bytes)
    return settings.max_body_bytes


@functools.lru_cache(MAX_CACHED)
def refuse_unwritable(accept: str | None, writable: tuple[Writer, ...]) -> None:
    """Raise NotAcceptable if no response format at all is acceptable, before any work is done."""
    best_media_type([writer.media_type for writer in writable], accept)


@functools.lru_cache(MAX_CACHED)
def response_codec(accept: str | None, request_codec: Codec | None, results: int) -> Codec:
    """Return the codec of a response: what Accept prefers, else the request's own if it responds in kind.

    Otherwise, and among formats that are equally acceptable, it is the one with the highest preference.

    Raises
    ------
    NotAcceptable
    """
    in_kind = request_codec if request_codec is not None and request_codec.responds_in_kind else None
    # the last one wins among equals
    available = sorted(writable_codecs(results), key=lambda codec: (codec is in_kind, codec.preference))
    return CODECS[best_media_type([codec.media_type for codec in available], accept)]


def best_media_type(available: list[str], accept: str | None) -> str:
    """Return what Accept prefers; among equals, and if there is no Accept, the last one.

    Raises
    ------
    NotAcceptable
    """
    if accept is None or not accept.strip():
        return available[-1]
    parts = accept.lower().split(",") if len(accept) <= MAX_HEADER else []
    ranges = [part for part in parts if _is_media_range(part)]
    best = str(mimeparse.best_match(available, ",".join(ranges))) if ranges else ""
    if not best:
        expected = f"Accept: {' or '.join(available)}"
        fault = "Accept allows no format that this response can have"
        raise NotAcceptable.of("", fault, got=_shown("Accept", accept), expected=expected)
    return best


def _is_media_range(text: str) -> bool:
    """Return whether a member of Accept can be read; one that cannot does not spoil the others."""
    try:
        mimeparse.parse_media_range(text)
    except (mimeparse.MimeTypeParseException, ValueError):
        return False
    return True
