"""Content types that no format has but that clients send by mistake, and what to say about them."""

from __future__ import annotations

from service.codecs.media_types import JSON, URL_ENCODED

__all__ = ["SENT_BY_MISTAKE"]

SENT_BY_MISTAKE = {
    URL_ENCODED: "a form without files is not read; curl -d sends this Content-Type unless another is given: add -H "
    f"'Content-Type: {JSON}' for JSON, or the file's own and --data-binary in place of -d for a file"
}
