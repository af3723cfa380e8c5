"""Requests and answers as clients with NumPy, zipfile and httpx write and read them: no codec of the service's own."""

from __future__ import annotations

import base64
import contextlib
import functools
import io
import json
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import httpx
import ml_dtypes
import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy
from fastapi import FastAPI

from service.app import create_app
from service.settings import Settings
from tests.clients import ApplicationClient, application_client

AnyArray = npt.NDArray[Any]
Operands = Mapping[str, AnyArray]
Parameters = Mapping[str, Any]
Options = dict[str, Any]

JSON = "application/json"
NPY = "application/x-npy"
NPZ = "application/x-npz"
SAFETENSORS = "application/vnd.safetensors"
MULTIPART = "multipart/form-data"
PROBLEM = "application/problem+json"
MAX_PROBLEM = 8192
MARKER = b"marker of the client"  # stands in hostile requests; no answer may hold it, as it is no short plain name


class Call(NamedTuple):
    """A call of an operation that is valid and small."""

    name: str
    path: str
    operands: dict[str, AnyArray]
    parameters: dict[str, Any]
    results: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


# -------------------------------------------------------------------------------------------------------------- tensors


def npy_bytes(array: AnyArray, version: tuple[int, int] | None = None) -> bytes:
    """The array as an npy file, in Fortran order or big-endian if the array is."""
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version, allow_pickle=False)
    return file.getvalue()


def npy_with_header(header: str | bytes, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    """An npy file with any text for a header; ``version`` decides how its length is written, as in the real thing."""
    text = header.encode("latin-1") if isinstance(header, str) else header
    length = len(text).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + length + text + data


def npy_header(descr: object = "<f8", shape: object = (1, 4, 1), fortran_order: object = False) -> str:
    """A well-formed header; a value that is a string of Python stands there as its repr."""
    return f"{{'descr': {descr!r}, 'fortran_order': {fortran_order!r}, 'shape': {shape!r}, }}\n"


def zip_bytes(members: Sequence[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive with these members, which may share names."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return file.getvalue()


def npz_bytes(operands: Operands, compression: int = zipfile.ZIP_STORED) -> bytes:
    """The arrays as an npz file."""
    return zip_bytes([(f"{name}.npy", npy_bytes(array)) for name, array in operands.items()], compression)


def little_endian(array: AnyArray) -> AnyArray:
    """The same values little-endian and in C order."""
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))


def json_nested(array: AnyArray) -> Any:
    """The array as nested lists, without its dtype."""
    return array.tolist()


def json_flat(array: AnyArray) -> Any:
    """The array as dtype, shape and a flat list."""
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": array.reshape(-1).tolist()}


def json_base64(array: AnyArray) -> Any:
    """The array as dtype, shape and base64."""
    text = base64.b64encode(little_endian(array).tobytes()).decode("ascii")
    return {"dtype": array.dtype.name, "shape": list(array.shape), "base64": text}


# ------------------------------------------------------------------------------------------------------------- requests


def typed(content_type: str, content: bytes, **more: Any) -> Options:
    """Options of a request with this body."""
    return {"content": content, "headers": {"Content-Type": content_type}, **more}


def json_body(value: object) -> Options:
    """Options of a request with this JSON body."""
    return typed(JSON, json.dumps(value).encode())


def as_text(value: object) -> str:
    """A parameter as a query string or a form field writes it: a bare word, or JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def as_texts(parameters: Parameters) -> dict[str, str]:
    return {name: as_text(value) for name, value in parameters.items()}


def nested_request(operands: Operands, parameters: Parameters) -> Options:
    """Nested lists, and the dtype beside them where it is not the default.

    Among operands of several types integers say what they are, but indices, which may be read as floats; and so does
    a scalar, which no list is.
    """
    types = {array.dtype.name for array in operands.values()}
    mixed = len(types) > 1 and not types <= {"float16", "float32", "float64", "int64"}
    body: dict[str, Any] = {
        name: json_flat(array) if (mixed and array.dtype.kind != "f") or array.ndim == 0 else json_nested(array)
        for name, array in operands.items()
    }
    beside = set() if mixed else types - {"float64"} - ({"int64"} if len(types) > 1 else set())
    if beside:
        (body["dtype"],) = beside
    return json_body({**body, **parameters})


def flat_request(operands: Operands, parameters: Parameters) -> Options:
    return json_body({**{name: json_flat(array) for name, array in operands.items()}, **parameters})


def base64_request(operands: Operands, parameters: Parameters) -> Options:
    return json_body({**{name: json_base64(array) for name, array in operands.items()}, **parameters})


def npy_request(operands: Operands, parameters: Parameters) -> Options:
    (array,) = operands.values()
    return typed(NPY, npy_bytes(array), params=as_texts(parameters))


def npz_request(operands: Operands, parameters: Parameters) -> Options:
    return typed(NPZ, npz_bytes(operands), params=as_texts(parameters))


def deflated_npz_request(operands: Operands, parameters: Parameters) -> Options:
    return typed(NPZ, npz_bytes(operands, zipfile.ZIP_DEFLATED), params=as_texts(parameters))


def safetensors_request(operands: Operands, parameters: Parameters) -> Options:
    contiguous = {name: np.asarray(array, order="C") for name, array in operands.items()}
    return typed(SAFETENSORS, safetensors.numpy.save(contiguous, as_texts(parameters) or None))


def safetensors_with_query_request(operands: Operands, parameters: Parameters) -> Options:
    return {**safetensors_request(operands, {}), "params": as_texts(parameters)}


def multipart_request(operands: Operands, parameters: Parameters) -> Options:
    """One file for each operand, as curl's ``-F input=@x.npy`` sends it, and one field for each parameter."""
    files = {name: (f"{name}.npy", npy_bytes(array), "application/octet-stream") for name, array in operands.items()}
    return {"files": files, "data": as_texts(parameters)}


def multipart_with_query_request(operands: Operands, parameters: Parameters) -> Options:
    return {**multipart_request(operands, {}), "params": as_texts(parameters)}


ENCODERS: dict[str, Callable[[Operands, Parameters], Options]] = {
    "nested": nested_request,
    "flat": flat_request,
    "base64": base64_request,
    "npy": npy_request,
    "npz": npz_request,
    "deflated_npz": deflated_npz_request,
    "safetensors": safetensors_request,
    "safetensors_with_query": safetensors_with_query_request,
    "multipart": multipart_request,
    "multipart_with_query": multipart_with_query_request,
}


def multipart_parts(parts: Sequence[tuple[str, bytes]], boundary: str = "limit") -> bytes:
    """A multipart body of parts, each its header lines and its content, written byte by byte."""
    lines = [f"--{boundary}\r\n{header}\r\n\r\n".encode("latin-1") + content + b"\r\n" for header, content in parts]
    return b"".join(lines) + f"--{boundary}--\r\n".encode()


def file_part(name: str, content: bytes) -> tuple[str, bytes]:
    """Header lines and content of a part that is a file."""
    return f'Content-Disposition: form-data; name="{name}"; filename="{name}.npy"', content


def field_part(name: str, value: str) -> tuple[str, bytes]:
    """Header lines and content of a part that is a field."""
    return f'Content-Disposition: form-data; name="{name}"', value.encode()


# -------------------------------------------------------------------------------------------------------------- answers


def media_type(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip()


def npy_array(content: bytes) -> AnyArray:
    """The array of an npy file that holds nothing else."""
    file = io.BytesIO(content)
    array: AnyArray = np.lib.format.read_array(file, allow_pickle=False)
    assert file.read() == b""
    return array


def npz_members(content: bytes) -> dict[str, bytes]:
    """The members of an npz file by the operand's name."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert all(name.endswith(".npy") for name in names)
        return {name.removesuffix(".npy"): archive.read(name) for name in names}


SAFETENSORS_DTYPES = {
    **{
        f"{kind.upper()}{8 * size}": np.dtype(f"{kind}{size}")
        for kind in "fiu"
        for size in (1, 2, 4, 8)
        if size > 1 or kind != "f"
    },
    "BF16": np.dtype(ml_dtypes.bfloat16),
}


def safetensors_tensors(content: bytes) -> dict[str, AnyArray]:
    """The tensors of a safetensors file, as the library reads it; its own arrays of NumPy have no bfloat16."""
    read: list[tuple[str, dict[str, Any]]] = safetensors.deserialize(content)  # type: ignore[no-untyped-call]
    return {
        name: np.frombuffer(bytes(tensor["data"]), SAFETENSORS_DTYPES[tensor["dtype"]]).reshape(tensor["shape"])
        if len(tensor["data"])
        else np.zeros(tensor["shape"], SAFETENSORS_DTYPES[tensor["dtype"]])
        for name, tensor in read
    }


def safetensors_file(header: str | bytes | Mapping[str, Any], data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with any header, of any announced length, and any data."""
    text = header.encode() if isinstance(header, str) else header
    if not isinstance(text, bytes):
        text = json.dumps(text).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def safetensors_entry(
    dtype: object = "F32", shape: object = (1, 2, 1), data_offsets: object = (0, 8), **more: object
) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": data_offsets, **more}


def json_array(tensor: Any, dtype: str = "float64") -> AnyArray:
    """The array in any of the three forms of JSON; ``dtype`` is that of nested lists."""
    if isinstance(tensor, list):
        return np.array(tensor, dtype=dtype)
    if "base64" in tensor:
        raw = base64.b64decode(tensor["base64"], validate=True)
        return np.frombuffer(raw, np.dtype(tensor["dtype"]).newbyteorder("<")).reshape(tensor["shape"])
    return np.array(tensor["data"], dtype=tensor["dtype"]).reshape(tensor["shape"])


def results(
    response: httpx.Response, names: Sequence[str], dtype: str | Mapping[str, str] = "float64"
) -> dict[str, AnyArray]:
    """The results of an answer of any format: a single npy gets the one name, nested lists get the type."""
    assert response.status_code == 200, response.text
    form = media_type(response)
    if form == NPY:
        (name,) = names
        return {name: npy_array(response.content)}
    if form == NPZ:
        return {name: npy_array(content) for name, content in npz_members(response.content).items()}
    if form == SAFETENSORS:
        loaded = safetensors_tensors(response.content)  # in any order
        return {name: loaded.pop(name) for name in names if name in loaded} | loaded
    assert form == JSON
    own = dict.fromkeys(names, dtype) if isinstance(dtype, str) else dtype
    return {name: json_array(tensor, own[name]) for name, tensor in response.json().items()}


def problem(response: httpx.Response, *statuses: int, marker: bytes | None = None) -> dict[str, Any]:
    """Check that the answer is a problem document with one of the statuses, small and without the client's bytes."""
    assert response.status_code in statuses, f"{response.status_code}: {response.text[:500]}"
    assert media_type(response) == PROBLEM
    assert len(response.content) < MAX_PROBLEM
    assert int(response.headers["content-length"]) == len(response.content)
    if marker is not None:
        assert marker not in response.content
        assert not any(marker in value for _, value in response.headers.raw)
    document: dict[str, Any] = response.json()
    assert {"type", "title", "status", "detail", "errors"} <= document.keys()
    assert document["status"] == response.status_code
    assert all(isinstance(document[key], str) and document[key] for key in ("type", "title", "detail"))
    for entry in document["errors"]:
        assert {"pointer", "message", "got", "expected"} <= entry.keys()
        assert all(isinstance(value, str) for value in entry.values())
        assert entry["pointer"] == "" or entry["pointer"].startswith("/")
        assert entry["message"]
    return document


def attacked(client: ApplicationClient, path: str, *statuses: int, **options: Any) -> dict[str, Any]:
    """Send a hostile request: it is refused, with a problem that says why and does not repeat the MARKER."""
    response = client.post(path, **options)
    document = problem(response, *statuses, marker=MARKER)
    assert document["errors"]
    return document


@contextlib.contextmanager
def little_memory(limit: int = 32 * 2**20) -> Iterator[None]:
    """Check that what runs inside allocates no more than this at one time; NumPy's arrays count."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < limit


def pointers(document: Mapping[str, Any]) -> list[str]:
    return [entry["pointer"] for entry in document["errors"]]


def refused(client: ApplicationClient, path: str, *statuses: int, **options: Any) -> dict[str, Any]:
    """Send a request that must be refused with one of the statuses; return the problem, which has an error at least."""
    document = problem(client.post(path, **options), *statuses)
    assert document["errors"]
    return document


# --------------------------------------------------------------------------------------------------------- applications


@functools.lru_cache
def application(**settings: Any) -> FastAPI:
    """An application with other settings than the defaults; building one takes longer than the tests."""
    return create_app(Settings(**settings))


@contextlib.contextmanager
def limited(**settings: Any) -> Iterator[ApplicationClient]:
    """A client of an application with other settings than the defaults."""
    with application_client(application(**settings)) as client:
        yield client
