"""Names in errors: JSON pointers to what a client named, safe to send back, and lists of names."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["joined", "looks_like_json", "pointer_to"]

PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,40}")


JSON_START = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]{0,100}[{\[]")


def looks_like_json(content: bytes | bytearray | memoryview) -> bool:
    """Return whether content begins as a JSON object or list does."""
    return JSON_START.match(content) is not None


def joined(names: Sequence[str]) -> str:
    """Join names as a sentence does: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def pointer_to(name: str) -> str:
    """Return the pointer to a member; empty, the whole request, if repeating the name would echo odd or long text."""
    return f"/{name}" if PLAIN_NAME.fullmatch(name) else ""
