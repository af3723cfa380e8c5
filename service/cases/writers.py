"""How cases are written: as an npz, a safetensors file, a JSON document, or JSON Lines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from numpy.typing import NDArray

from cnn_core.runtime.cancellation import check_cancelled

from ..codecs import CODECS, Buffer, Encoded, ResponseContext, Writer
from ..codecs.buffers import is_finite
from ..codecs.json_tensors import longest_text, write_tensor
from ..codecs.media_types import JSON, JSON_LINES, NDJSON, NPZ, SAFETENSORS
from ..codecs.message import TensorType
from ..codecs.npz import npz_chunks
from .call import CasesCall
from .computing import Case
from .manifest import case_entry, case_name, manifest_text, shared_members, tolerance_of

__all__ = ["WRITERS", "CasesWriter", "ComputedCases"]

MANIFEST = "manifest"
CHUNK_BYTES = 2**18


class ComputedCases:
    """The cases of a request.

    Parameters
    ----------
    call : CasesCall
    cases : sequence of Case
    """

    def __init__(self, call: CasesCall, cases: Sequence[Case]) -> None:
        self.call, self.cases = call, cases

    def manifest(self) -> bytes:
        """Return the manifest of all of them."""
        entries = []
        for number, case in enumerate(self.cases):  # one at a time, so that other threads get the GIL in between
            check_cancelled()
            entries.append(manifest_text(case_entry(self.call, case, number)))
        return b'%b,"cases":[%b]}' % (manifest_text(shared_members(self.call))[:-1], b",".join(entries))

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return all tensors by name, such as case_0000/input."""
        return {
            f"{case_name(number)}/{name}": array
            for number, case in enumerate(self.cases)
            for name, array in (*case.operands.items(), *case.results.items())
        }


class CasesWriter(Writer, ABC):
    """A format of an archive of cases."""

    def encode(self, results: ComputedCases, response: ResponseContext) -> Encoded:  # noqa: ARG002
        """Encode cases."""
        return Encoded(list(_gathered(self.chunks(results))))

    def response_memory(self, results: Sequence[TensorType], options: Mapping[str, Any]) -> int:  # noqa: ARG002
        """Return the bytes of a copy of everything: its many small pieces are joined."""
        return sum(tensor.nbytes for tensor in results)

    @abstractmethod
    def chunks(self, computed: ComputedCases) -> Iterator[Buffer]:
        """Yield the archive in pieces."""


def _gathered(chunks: Iterator[Buffer]) -> Iterator[Buffer]:
    """Join small pieces to some large ones: the event loop sends each by itself, and there are tens of thousands."""
    small: list[Buffer] = []
    size = 0
    for chunk in chunks:
        small.append(chunk)
        size += memoryview(chunk).nbytes
        if size >= CHUNK_BYTES:
            check_cancelled()
            yield b"".join(small)
            small, size = [], 0
    yield b"".join(small)


class NpzWriter(CasesWriter):
    """An npz with the manifest as a member that is its text."""

    media_type: ClassVar[str] = NPZ
    title: ClassVar[str] = "npz"

    def chunks(self, computed: ComputedCases) -> Iterator[Buffer]:
        yield from npz_chunks(computed.tensors(), {MANIFEST: computed.manifest()})


class SafetensorsWriter(CasesWriter):
    """A safetensors file with the manifest in its metadata."""

    media_type: ClassVar[str] = SAFETENSORS
    title: ClassVar[str] = "safetensors"

    def chunks(self, computed: ComputedCases) -> Iterator[Buffer]:
        metadata = {MANIFEST: computed.manifest().decode()}
        yield from CODECS[SAFETENSORS].encode(computed.tensors(), ResponseContext(parameters=metadata)).buffers


class TextWriter(CasesWriter):
    """A text format, whose tensors are flat lists, or base64 where they are not finite."""

    charset: ClassVar[str] = "utf-8"
    compressible: ClassVar[bool] = True

    def response_memory(self, results: Sequence[TensorType], options: Mapping[str, Any]) -> int:  # noqa: ARG002
        # the last one is the text of the manifest, which is there already
        return sum(longest_text(tensor, "flat") for tensor in results[:-1])


class JsonWriter(TextWriter):
    """A JSON object with the manifest and all tensors."""

    media_type: ClassVar[str] = JSON
    title: ClassVar[str] = "JSON"

    def chunks(self, computed: ComputedCases) -> Iterator[Buffer]:
        yield b'{"manifest":' + computed.manifest()
        for name, array in computed.tensors().items():
            yield b',"%b":' % name.encode()
            yield from _tensor_text(array)
        yield b"}\n"


class JsonLinesWriter(TextWriter):
    """A line for each case, with all that the manifest says of it and its tensors."""

    media_type: ClassVar[str] = JSON_LINES
    title: ClassVar[str] = "JSON Lines"

    def chunks(self, computed: ComputedCases) -> Iterator[Buffer]:
        shared = shared_members(computed.call)
        for number, case in enumerate(computed.cases):
            entry = case_entry(computed.call, case, number)
            del entry["operands"], entry["results"]
            tolerances = {name: tolerance_of(case, name) for name in case.results}
            yield manifest_text({**shared, **entry, "tolerances": tolerances})[:-1]
            yield b',"operands":'
            yield from _object_text(case.operands)
            yield b',"results":'
            yield from _object_text(case.results)
            yield b"}\n"


class NdjsonWriter(JsonLinesWriter):
    """The same by the other name that it has."""

    media_type: ClassVar[str] = NDJSON


def _object_text(tensors: Mapping[str, NDArray[Any]]) -> Iterator[Buffer]:
    for index, (name, array) in enumerate(tensors.items()):
        yield b'%b"%b":' % (b"," if index else b"{", name.encode())
        yield from _tensor_text(array)
    yield b"}"


def _tensor_text(array: NDArray[Any]) -> Iterator[Buffer]:
    check_cancelled()
    yield from write_tensor(array, "flat" if is_finite(array) else "base64")


WRITERS = (NdjsonWriter(), JsonLinesWriter(), JsonWriter(), SafetensorsWriter(), NpzWriter())
"""The formats of cases; the last one is the default."""
