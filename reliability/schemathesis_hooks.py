"""What schemathesis does not send: see schemathesis.toml."""

from __future__ import annotations

from typing import Any

import schemathesis

NO_VALUE = ("", None, "null", "None")


@schemathesis.hook  # type: ignore[untyped-decorator,unused-ignore]
def filter_query(_: Any, query: dict[str, Any] | None) -> bool:
    """Leave out queries with a parameter that has no value, such as ``?groups=`` and ``?groups=null``.

    They are refused by the schema, and read as if the parameter were not there (service/codecs/text.py).
    """
    values = (query or {}).values()
    return not any(each in NO_VALUE for value in values for each in (value if isinstance(value, list) else [value]))
