"""The URL fragments of the playground, written and read without its code."""

from __future__ import annotations

import base64
import json
import math
import urllib.parse
import zlib
from typing import Any

import numpy as np

from tests.browser.playground.layers import Example
from tests.oracle.windows import AnyArray


def fragment_of(example: Example, **more: str) -> str:
    """The fragment of a layer; ``more`` are parts such as ``view``, ``item`` or ``hide``."""
    parts: dict[str, Any] = {"op": example.op} | more | example.parameters | {"data": packed(example.tensors)}
    return "#v1" + "".join(f"&{name}={quoted(value)}" for name, value in parts.items())


def quoted(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return urllib.parse.quote(text, safe="[],:")


def packed(tensors: dict[str, AnyArray]) -> str:
    """base64url of the deflated JSON of the tensors."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    text = json.dumps({name: as_json(array) for name, array in tensors.items()})
    return encoded(compressor.compress(text.encode()) + compressor.flush())


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def as_json(array: AnyArray) -> dict[str, Any]:
    return {
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "data": [as_number(one) for one in array.reshape(-1).tolist()],
    }


def as_number(value: float) -> float | str:
    """JSON has no word for these: they are strings."""
    if not math.isfinite(value):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
    return "-0" if value == 0 and str(value).startswith("-") else value


def unpacked(fragment: str) -> dict[str, AnyArray]:
    """The tensors of a fragment."""
    data = dict(urllib.parse.parse_qsl(fragment.removeprefix("#v1&")))["data"]
    text = zlib.decompress(base64.urlsafe_b64decode(data + "=" * (-len(data) % 4)), wbits=-zlib.MAX_WBITS)
    return {
        name: np.array(tensor["data"], dtype=tensor["dtype"]).reshape(tensor["shape"])
        for name, tensor in json.loads(text).items()
    }
