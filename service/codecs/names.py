"""JSON pointers to what a client named, safe to send back."""

from __future__ import annotations

import re

__all__ = ["pointer_to"]

PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,40}")


def pointer_to(name: str) -> str:
    """Return the pointer to a member; empty, the whole request, if repeating the name would echo odd or long text."""
    return f"/{name}" if PLAIN_NAME.fullmatch(name) else ""
