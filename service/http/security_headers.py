"""What browsers are told beside the content: where a page may load from, and who may show it."""

from __future__ import annotations

import base64
import hashlib
import re

__all__ = ["FOR_ALL_RESPONSES", "page_headers"]

FOR_ALL_RESPONSES = [("X-Content-Type-Options", "nosniff")]
"""Headers that the server adds to every response: a browser must not take a result for HTML, whatever is in it."""

INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def page_headers(page: str, *, has_scripts: bool = True) -> dict[str, str]:
    """Return the headers of a page that loads scripts, styles and pictures from its own origin, and calls it.

    Parameters
    ----------
    page : str
        HTML. Its inline scripts are allowed by their digests, so that a script that something else brings into the
        page does not run.
    has_scripts : bool
        Whether it may run scripts, and call the service, at all.
    """
    digests = (hashlib.sha256(script.encode()).digest() for script in INLINE_SCRIPT.findall(page))
    inline = [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]
    policy = (
        "default-src 'none'",
        *((" ".join(("script-src 'self'", *inline)), "connect-src 'self'") if has_scripts else ()),
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    return {"Content-Security-Policy": "; ".join(policy), "Referrer-Policy": "no-referrer"}
