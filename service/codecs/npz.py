"""The NumPy archive: a zip file with an npy file for each operand or result."""

from __future__ import annotations

import io
import itertools
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..problems import Finding, InvalidRequest, TooLarge, UnreadablePayload
from .buffers import widened_bytes
from .codec import Codec
from .media_types import NPZ
from .message import Buffer, Decoded, Encoded, Limits, RequestContext, ResponseContext, TensorType
from .names import joined, looks_like_json, pointer_to
from .npy import LOOKS_LIKE_JSON, SENT_AS_TEXT, decode_npy, encode_npy
from .steps import find, find_all, steps

__all__ = ["NpzCodec", "npz_chunks"]

READABLE_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
OTHER_METHODS = {
    9: "Deflate64",
    12: "BZIP2",
    14: "LZMA",
    20: "Zstandard",
    93: "Zstandard",
    95: "XZ",
    98: "PPMd",
    99: "AES",
}
"""The names of other compression methods (APPNOTE.TXT of the zip format, section 4.4.5)."""

ENCRYPTED = 0x1
UNIX = 3
"""The system that a member says it was written on: zipfile writes the one that it runs on."""

LOCAL_HEADER = b"PK\x03\x04"
LOCAL_HEADER_BYTES = 30
LENGTHS = struct.Struct("<HH")
"""Of the name and the extra field that follow a local header: its last four bytes."""

CHUNK_BYTES = 2**18
MEMORY_OF_CHUNK = 4
"""Copies of a chunk while it is inflated."""

MAX_READ = 2**21
MAX_MEMBERS = 64
DIRECTORY_ENTRY = b"PK\x01\x02"
MAX_DIRECTORY_ENTRIES = 1000
"""zipfile makes an object for each entry before it can be asked how many there are. The signature may also occur in a
tensor's data, so the bound is far above the members that are taken."""


class NpzCodec(Codec):
    """Operands, or results, by name; stored without compression on the way out."""

    media_type: ClassVar[str] = NPZ
    title: ClassVar[str] = "npz"
    extension: ClassVar[str] = "npz"
    responds_in_kind: ClassVar[bool] = False  # npy is preferred for a single result
    preference: ClassVar[int] = 1

    def decode(self, body: bytearray, request: RequestContext, limits: Limits) -> Decoded:  # noqa: D102
        entries = itertools.islice(find_all(body, DIRECTORY_ENTRY), MAX_DIRECTORY_ENTRIES + 1)
        if len(list(entries)) > MAX_DIRECTORY_ENTRIES:
            raise _unreadable("its directory is too long", "more members than operands", f"at most {MAX_MEMBERS}")
        file = _File(body)
        try:
            archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, OverflowError, EOFError, struct.error):
            raise _unreadable(f"it is not a zip file{_hint(body)}", "other bytes", "a zip file") from None
        with archive:
            members = _checked_members(archive, request.operands, body, limits)
            contents = {name: _content(archive, member, file) for name, member in members.items()}
        return Decoded({name: decode_npy(content, name, limits) for name, content in contents.items()})

    def response_memory(self, results: Sequence[TensorType], options: Mapping[str, Any]) -> int:  # noqa: D102
        return widened_bytes(results)

    def encode(self, results: Mapping[str, NDArray[Any]], response: ResponseContext) -> Encoded:  # noqa: D102
        return Encoded(npz_chunks(results))


def npz_chunks(arrays: Mapping[str, NDArray[Any]], texts: Mapping[str, bytes] = MappingProxyType({})) -> list[Buffer]:
    """Return an archive of arrays, before them texts: members that are no npy files. The same gives the same bytes."""
    content = _Chunks()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        for name, text in texts.items():
            _write_member(archive, name, [text])
        for name, array in arrays.items():
            _write_member(archive, f"{name}.npy", encode_npy(array))
    return content.chunks


def _write_member(archive: zipfile.ZipFile, name: str, chunks: Sequence[Buffer]) -> None:
    # a ZipInfo without a date of its own, and of one system
    info = zipfile.ZipInfo(name)
    info.create_system = UNIX
    with archive.open(info, "w", force_zip64=True) as member:
        for chunk in chunks:
            member.write(chunk)


class _File:
    """A body as a file for zipfile to read, which copies no more of it than is read at a time."""

    def __init__(self, body: bytearray) -> None:
        self.body = body
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        end = len(self.body) if size < 0 else min(len(self.body), self._position + size)
        if end - self._position > MAX_READ:  # a whole directory is read at once
            raise _unreadable("its directory is too long", "more bytes", f"at most {MAX_READ} bytes")
        content = self.body[self._position : end]
        self._position = max(self._position, end)
        return bytes(content)

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self.body)}[whence]
        self._position = max(0, start + offset)
        return self._position

    def seekable(self) -> bool:
        return True


class _Chunks:
    """A file for zipfile to write, which stores chunks without copying them: a tensor's data stays where it is.

    zipfile completes a member's header once its data is written, by writing it a second time over the first.
    """

    def __init__(self) -> None:
        self.chunks: list[Buffer] = []
        self._index_at: dict[int, int] = {}
        self._position = 0

    def write(self, data: Buffer) -> int:
        index = self._index_at.setdefault(self._position, len(self.chunks))
        self.chunks[index : index + 1] = [data]
        self._position += len(data)
        return len(data)

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        self._position = position
        return position

    def flush(self) -> None:
        pass


def _checked_members(
    archive: zipfile.ZipFile, operands: Sequence[str], body: bytearray, limits: Limits
) -> dict[str, zipfile.ZipInfo]:
    """Return the members by operand after checking everything that the directory says, before anything is inflated."""
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        raise _unreadable("it has too many members", f"{len(infos)} members", f"at most {MAX_MEMBERS}")
    members: dict[str, zipfile.ZipInfo] = {}
    findings = []
    for info in infos:
        name = info.filename.removesuffix(".npy")
        if name not in operands or info.filename == name:
            expected = f"members for {joined(operands)} only"
            pointer = pointer_to(name)
            fault, hint = f"the npz has a member {pointer.removeprefix('/')}".rstrip(), ""
            if name in operands:
                fault, expected = f"{fault} whose name does not end in .npy", f"{name}.npy"
            elif "/" in name or "\\" in name:
                fault, expected = f"{fault} in a directory", f"a name without one, such as {operands[0]}.npy"
            else:
                fault, hint = f"{fault} that is not an operand", "parameters go in the query string"
            findings.append(Finding.of(pointer, fault, got="another member", expected=expected, hint=hint))
        elif name in members:
            fault = f"{name} is in the npz more than once"
            findings.append(Finding.of(f"/{name}", fault, got="two members", expected="one member"))
        members[name] = info
    if findings:
        raise InvalidRequest(*findings)
    for name, info in members.items():
        if info.flag_bits & ENCRYPTED:
            fault = f"{name} is encrypted in the npz"
            raise UnreadablePayload.of(f"/{name}", fault, got="encryption", expected="no encryption")
        if info.compress_type not in READABLE_METHODS:
            method = OTHER_METHODS.get(info.compress_type, f"method {info.compress_type}")
            fault, expected = f"{name} has another compression in the npz", "stored or deflated, as numpy writes it"
            raise UnreadablePayload.of(f"/{name}", fault, got=method, expected=expected)
    _refuse_overlaps(infos, body)
    inflated = sum(info.file_size for info in infos)
    if inflated > limits.decompressed_bytes:
        raise TooLarge.of(
            "",
            "the members of the npz inflate to more than this server allows",
            got=f"{inflated} bytes",
            expected=f"at most {limits.decompressed_bytes} bytes",
        )
    sizes = [info.file_size for info in infos if info.compress_type != zipfile.ZIP_STORED]
    limits.charge(sum(sizes) + MEMORY_OF_CHUNK * min(max(sizes, default=0), CHUNK_BYTES))
    return members


def _refuse_overlaps(infos: Sequence[zipfile.ZipInfo], body: bytearray) -> None:
    """Refuse members that share bytes, by which a small file could inflate without end."""
    following = len(body)
    for info in sorted(infos, key=lambda info: info.header_offset, reverse=True):
        start = info.header_offset + LOCAL_HEADER_BYTES
        if LOCAL_HEADER_BYTES <= start <= following:
            start += sum(LENGTHS.unpack_from(body, start - LENGTHS.size))
        if start + info.compress_size > following:
            raise _unreadable("its members overlap", "members that share bytes", "members that do not overlap")
        following = info.header_offset


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: _File) -> memoryview:
    """Return a member's content, which is as long as its directory entry promises: a view of the body, if stored."""
    try:
        with archive.open(info) as member:
            if info.compress_type == zipfile.ZIP_STORED:
                start = file.tell()  # behind the member's header
                content = memoryview(file.body)[start : start + info.compress_size]
                complete = zlib.crc32(content) == info.CRC
            else:
                content = np.empty(info.file_size, np.uint8).data
                complete = _inflated(member, content)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError, RuntimeError):
        complete = False
    if not complete or len(content) != info.file_size:
        reason = f"a member is damaged{_hint(file.body)}"
        raise _unreadable(reason, "damaged data", "data that fits the archive's directory")
    return content


def _inflated(member: IO[bytes], content: memoryview) -> bool:
    """Inflate a member into a buffer, and not a byte more than it holds; return whether that is the whole member."""
    for first, last in steps(0, len(content), CHUNK_BYTES):
        filled = first
        while filled < last:
            count = member.readinto(content[filled:last])  # type: ignore[attr-defined]
            if not count:
                return False
            filled += count
    return not member.read(1)


def _hint(body: bytearray) -> str:
    """Say how to send an archive as it is, if this one may have been sent as text."""
    if looks_like_json(body):
        return f"; {LOOKS_LIKE_JSON}"
    is_whole = all(find(body, character, 0, len(body)) >= 0 for character in (b"\0", b"\n"))
    may_be_stripped = body.startswith(LOCAL_HEADER) and not is_whole
    return f"; {SENT_AS_TEXT}" if may_be_stripped else ""


def _unreadable(reason: str, got: str, expected: str) -> Exception:
    return UnreadablePayload.of("", f"the body is not a readable npz: {reason}", got=got, expected=expected)
