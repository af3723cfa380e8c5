"""Content types that no format has but that clients send by mistake, and what to say about them."""

from __future__ import annotations

from .media_types import JSON, URL_ENCODED

__all__ = ["SENT_BY_MISTAKE"]

CURL_SENDS_IT = (
    f"curl -d sends this Content-Type unless another is given: add -H 'Content-Type: {JSON}' for JSON, or the file's "
    "own and --data-binary in place of -d for a file"
)

SENT_BY_MISTAKE = {URL_ENCODED: ("a form without files is not read", CURL_SENDS_IT)}
"""By content type: what is wrong, and what to do."""
