"""The headers of a request, read once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["RequestHeaders"]


class RequestHeaders(Mapping[str, str]):
    """A request's headers by their names, in any case; several fields of one name are one list (RFC 9110, 5.3).

    Parameters
    ----------
    fields : sequence of pairs of bytes
        As ASGI has them: with names in lower case.
    """

    def __init__(self, fields: Sequence[tuple[bytes, bytes]]) -> None:
        self._values: dict[str, str] = {}
        for raw_name, raw_value in fields:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            self._values[name] = f"{self._values[name]}, {value}" if name in self._values else value

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a header, or the default if there is none."""
        return self._values.get(name.lower(), default)
