"""Requests as the service reads them, and results as it writes them: npz, JSON, and nothing that knows how to send."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnn_core import ConvGradients, MaxPoolResult

from ..cases import read_npz
from .errors import CallError, ServerGone, TimedOut, problem_of

__all__ = [
    "JSON",
    "NPZ",
    "Call",
    "json_call",
    "read_array",
    "read_gradients",
    "read_pooled",
    "sending",
    "tensors_call",
]

JSON = "application/json"
NPZ = "application/x-npz"

Array = NDArray[Any]
MAX_PARAMETER_ITEMS = 64
"""Elements of an array that is a parameter, such as a stride for each axis: a larger one is an operand."""


@dataclass(frozen=True)
class Call:
    """A request, and how the content of its response becomes what the caller gets."""

    path: str
    content: bytes
    content_type: str
    accept: str
    read: Callable[[bytes], Any]
    query: Mapping[str, str] = field(default_factory=dict)

    def request(self) -> dict[str, Any]:
        """Return the arguments of httpx's ``request``."""
        return {
            "method": "POST",
            "url": self.path,
            "params": dict(self.query),
            "content": self.content,
            "headers": {"Content-Type": self.content_type, "Accept": self.accept},
        }

    def result(self, response: httpx.Response) -> Any:
        """Return what the caller gets.

        Raises
        ------
        Problem
            If it is an error.
        CallError
            If it is none of this service's responses.
        """
        if response.status_code != httpx.codes.OK:
            raise problem_of(response)
        try:
            return self.read(response.content)
        except (ValueError, KeyError, TypeError) as error:
            got = response.headers.get("Content-Type", "no Content-Type")
            raise CallError(
                f"{response.url} does not respond as convpool does: it should have sent {self.accept}, and sent {got} "
                f"that cannot be read ({error})"
            ) from error


def tensors_call(
    path: str,
    tensors: Mapping[str, ArrayLike | None],
    parameters: Mapping[str, Any],
    accept: str,
    read: Callable[[bytes], Any],
) -> Call:
    """Return a call whose tensors are sent as an npz, with the parameters in the query string.

    A tensor or a parameter that is None is not sent.
    """
    body = io.BytesIO()
    np.savez(body, **{name: _array(tensor) for name, tensor in tensors.items() if tensor is not None})  # type: ignore[arg-type]
    query = {name: _text(name, value) for name, value in parameters.items() if value is not None}
    return Call(path, body.getvalue(), NPZ, accept, read, query)


def json_call(path: str, members: Mapping[str, Any], accept: str, read: Callable[[bytes], Any]) -> Call:
    """Return a call without tensors, whose members are sent as JSON; those that are None are not sent."""
    given = {name: value for name, value in members.items() if value is not None}
    return Call(path, json.dumps(given, default=_plain).encode(), JSON, accept, read)


def read_array(content: bytes) -> Array:
    """Return the only result."""
    (result,) = read_npz(content, "a response").values()
    return np.asarray(result)


def read_gradients(content: bytes) -> ConvGradients:
    """Return the gradients of a convolution."""
    return ConvGradients(**read_npz(content, "a response"))


def read_pooled(content: bytes) -> Array | MaxPoolResult:
    """Return the output of a pooling layer, with the indices of its maxima if they were asked for."""
    results = read_npz(content, "a response")
    return MaxPoolResult(**results) if len(results) > 1 else np.asarray(results["output"])


@contextlib.contextmanager
def sending(url: str) -> Iterator[None]:
    """Turn what httpx raises while it sends into errors of the client.

    Raises
    ------
    ServerGone, TimedOut
    """
    try:
        yield
    except httpx.ConnectError as error:
        raise ServerGone(
            f"no server answers at {url}: {error}; start one with `convpool serve`, name another by base_url or "
            "CONVPOOL_URL (--url), or compute in this process: local=True (--local)"
        ) from error
    except httpx.ConnectTimeout as error:
        raise ServerGone(f"no server answers at {url}: the connection was not made in time") from error
    except httpx.TimeoutException as error:
        raise TimedOut(
            f"{url} did not respond in time ({type(error).__name__}): the client's timeout can be raised"
        ) from error
    except httpx.TransportError as error:
        raise ServerGone(f"the connection to {url} ended before its response was complete: {error}") from error


def _array(tensor: ArrayLike) -> Array:
    """Return an operand as an array; a plain number gets the type of the operand that it belongs to on the server."""
    is_plain = type(tensor) in (int, float)
    array = np.asarray(tensor, np.float64) if is_plain else np.asarray(tensor)
    if array.dtype.kind not in "biuf":  # savez would pickle objects, and lose the names of types that are not NumPy's
        raise TypeError(f"an operand is an array of numbers of a type that NumPy has itself; got {array.dtype}")
    return array


def _text(name: str, value: Any) -> str:
    """Return a parameter's value as the query string has it: JSON, or a string as it is."""
    if isinstance(value, np.ndarray) and value.size > MAX_PARAMETER_ITEMS:
        raise TypeError(
            f"{name} is no operand of this call, and a parameter has at most {MAX_PARAMETER_ITEMS} elements; got an "
            f"array of {value.size}"
        )
    return value if isinstance(value, str) else json.dumps(value, default=_plain, separators=(",", ":"))


def _plain(value: Any) -> Any:
    """Return what JSON can hold for a value of NumPy."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"a parameter is a number, a string, a boolean or a list of such; got {type(value).__name__}")
