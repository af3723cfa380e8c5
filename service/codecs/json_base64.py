"""Strings of base64 in JSON, decoded in steps: one call for a large one would hold the GIL for a tenth of a second."""

from __future__ import annotations

import base64
import binascii

import orjson

from .json_check import string_pieces
from .json_objects import Text, Unreadable
from .message import Buffer, Limits
from .steps import find, steps

__all__ = ["base64_characters", "decode_base64"]


def base64_characters(text: Text, limits: Limits) -> Buffer:
    """Return what is in a JSON string, in UTF-8: a view of it, unless there are escapes, as PHP writes for a slash.

    Raises
    ------
    Unreadable
    """
    inside = text[1:-1]
    if find(inside, b"\\", 0, len(inside)) < 0:
        return inside
    limits.charge(2 * len(inside))  # what grows may take more than it holds
    characters = bytearray()
    try:
        for start, end in string_pieces(inside, 0, len(inside)):
            characters += orjson.loads(b'"%b"' % bytes(inside[start:end])).encode()
    except orjson.JSONDecodeError:
        raise Unreadable from None
    return characters


def decode_base64(characters: Buffer, target: memoryview) -> bool:
    """Decode base64 with padding into a buffer; return whether it is base64 and as long as the buffer."""
    view, filled = memoryview(characters), 0
    for start, end in steps(0, len(view)):
        try:
            part = base64.b64decode(view[start:end], validate=True)
        except (binascii.Error, ValueError):
            return False
        if filled + len(part) > len(target):
            return False
        target[filled : filled + len(part)] = part
        filled += len(part)
    return filled == len(target)
