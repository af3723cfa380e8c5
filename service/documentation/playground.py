"""The playground, the page at ``/``, and the files that it loads: those of one folder, read when the service starts."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from ..codecs import JSON_CODEC
from ..http.documents import Document
from ..http.security_headers import page_headers

__all__ = ["playground_documents"]

FOLDER = Path(__file__).parents[1] / "playground"
PAGE = "index.html"

MEDIA_TYPES: Mapping[str, str] = MappingProxyType(
    {".js": "text/javascript", ".css": "text/css", ".json": JSON_CODEC.media_type, ".LICENSE": "text/plain"}
)
"""By what the name of a file ends with; another one (an editor's copy, say) is not served."""


@functools.cache
def playground_documents() -> Mapping[str, Document]:
    """Return by path what the playground consists of.

    The paths are those of the files that are there now: what a client asks for is looked up among them, and never
    becomes a path of the file system.
    """
    page = (FOLDER / PAGE).read_bytes()
    documents = {"/": Document(page, "text/html", page_headers(page.decode()))}
    for file in sorted(FOLDER.rglob("*")):
        if file.suffix in MEDIA_TYPES and file.is_file():
            path = f"/playground/{file.relative_to(FOLDER).as_posix()}"
            documents[path] = Document(file.read_bytes(), MEDIA_TYPES[file.suffix])
    return MappingProxyType(documents)
