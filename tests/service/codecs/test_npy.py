"""npy and npz files of NumPy and of other writers are read bit for bit, as NumPy reads them."""

from __future__ import annotations

import io
import math
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_core import MaxPool
from service.codecs import buffers
from service.codecs.message import DTYPES, Limits, RequestContext
from service.codecs.npy import decode_npy
from service.codecs.npz import MEMORY_OF_CHUNK, NpzCodec
from service.problems import InvalidRequest, UnreadablePayload
from tests.clients import ApplicationClient
from tests.service import payloads
from tests.service.calls import INPUT, assert_identical
from tests.service.payloads import NPZ, AnyArray
from tests.strategies import thorough_settings

UNLIMITED = Limits(2**20, lambda _: None)
POOL = {"mode": "max", "kernel_size": "2"}


@st.composite
def stored_arrays(draw: st.DrawFn) -> AnyArray:
    """Arrays of any bits, of every type, in either byte order and of either layout."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES))).newbyteorder(draw(st.sampled_from("<>")))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=8)))
    bits = np.random.default_rng(draw(st.integers(0, 2**32))).bytes(math.prod(shape) * dtype.itemsize)
    array = np.frombuffer(bits, dtype).reshape(shape)
    return draw(st.sampled_from([array, np.asfortranarray(array)]))


@thorough_settings
@given(stored_arrays(), st.sampled_from([None, (1, 0), (2, 0), (3, 0)]), st.sampled_from([1, buffers.COPIED_BYTES]))
def test_what_numpy_writes_is_read_bit_for_bit(
    array: AnyArray, version: tuple[int, int] | None, copied_bytes: int
) -> None:
    content = payloads.npy_bytes(array, version)
    for padding in (b"", b" " * 64, b"\t \n"):  # writers align the data to more bytes or to fewer
        field = 2 if content[6] == 1 else 4
        end = 8 + field + int.from_bytes(content[8 : 8 + field], "little")
        header = content[8 + field : end - 1] + padding + b"\n"
        padded = payloads.npy_with_header(header, content[end:], (content[6], content[7]))
        charges: list[int] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(buffers, "COPIED_BYTES", copied_bytes)
            read = decode_npy(memoryview(bytearray(padded)), "input", Limits(0, charges.append))
        expected = np.load(io.BytesIO(padded))
        assert charges == ([] if array.flags.c_contiguous else [array.nbytes])
        assert read.dtype == array.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
        assert read.shape == array.shape
        assert read.tobytes() == expected.astype(read.dtype).tobytes()
        assert read.flags.c_contiguous
        assert read.flags.aligned


CODES = [
    *"?bBhHiIlLqQnNpPefdgFDGSUVOMmx",
    *[f"{kind}{size}" for kind in "biufcSUV" for size in (0, 1, 2, 3, 4, 8, 16)],
    *["m8", "M8[s]", "F4", "f4,", "1f4", "(1,)f4", " f4", "f4 ", ""],
    *[
        "half",
        "single",
        "double",
        "float",
        "longdouble",
        "byte",
        "ubyte",
        "short",
        "intc",
        "int",
        "int_",
        "long",
        "uint",
    ],
    *["longlong", "ulonglong", "intp", "bool", "float32", "uint8", "complex64", "object", "str", "bytes", "Float32"],
]
SPELLINGS = [f"{order}{code}" for order in ("", "<", ">", "=", "|") for code in CODES]


@pytest.mark.one_in(7)
@pytest.mark.parametrize("descr", SPELLINGS)
def test_a_dtype_is_read_in_every_spelling_that_numpy_reads(descr: str) -> None:
    content = payloads.npy_with_header(payloads.npy_header(descr, (3,)), bytes(range(3 * 16)))
    try:
        dtype = np.dtype(descr)
    except TypeError:
        dtype = np.dtype("V1")
    content = content[: len(content) - 3 * 16 + 3 * dtype.itemsize]
    if dtype.name not in DTYPES:
        with pytest.raises(InvalidRequest, match=r"input has .*expected float16, float32"):
            decode_npy(memoryview(bytearray(content)), "input", UNLIMITED)
        return
    read, expected = decode_npy(memoryview(bytearray(content)), "input", UNLIMITED), np.load(io.BytesIO(content))
    assert read.dtype == dtype.newbyteorder("=")
    assert read.tobytes() == expected.astype(read.dtype).tobytes()


@pytest.mark.parametrize(
    ("header", "shape"),
    [
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (1L, 4L, 1L), }", (1, 4, 1)),  # from Python 2
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (4L,), }", (4,)),
        ("{'shape': (2L,2L), 'fortran_order': True, 'descr': '<f8'}", (2, 2)),
        ('{"descr":"<f8","fortran_order":False,"shape":(4,)}', (4,)),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (4 , ) , }   \n", (4,)),
        ("{'descr': '<f8',\n 'fortran_order': False,\r\n 'shape': (2, 2),\n}\n", (2, 2)),
    ],
)
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.filterwarnings("ignore:Reading `.npy` or `.npz` file required additional header parsing")
def test_headers_of_other_writers(header: str, shape: tuple[int, ...], version: tuple[int, int]) -> None:
    content = payloads.npy_with_header(header, np.arange(4.0).tobytes(), version)
    read, expected = decode_npy(memoryview(bytearray(content)), "input", UNLIMITED), np.load(io.BytesIO(content))
    assert read.shape == expected.shape == shape
    assert read.tolist() == expected.tolist()


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("writer", ["zip64", "extra field", "comments", "date", "text before"])
def test_zip_files_of_other_writers(client: ApplicationClient, writer: str, compression: int) -> None:
    file = io.BytesIO(b"#!/bin/sh\n" if writer == "text before" else b"")
    with zipfile.ZipFile(file, "a" if writer == "text before" else "w", compression) as archive:
        info = zipfile.ZipInfo("input.npy", (2026, 1, 2, 3, 4, 6) if writer == "date" else (1980, 1, 1, 0, 0, 0))
        info.compress_type = compression
        if writer == "extra field":
            info.extra = b"\xfe\xca\x04\x00text"
        if writer == "comments":
            info.comment = archive.comment = b"PK\x01\x02 in a comment"
        with archive.open(info, "w", force_zip64=writer == "zip64") as member:
            member.write(payloads.npy_bytes(INPUT))
    response = client.post("/pool/forward", **payloads.typed(NPZ, file.getvalue(), params=POOL))
    assert_identical(payloads.results(response, ["output"]), {"output": MaxPool(kernel_size=2).forward(INPUT)})


def test_only_what_is_inflated_is_charged() -> None:
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        charges: list[int] = []
        body = bytearray(payloads.npz_bytes({"input": INPUT}, compression))
        decoded = NpzCodec().decode(body, RequestContext(("input",)), Limits(2**20, charges.append))
        assert decoded.tensors["input"].tobytes() == INPUT.tobytes()
        inflated = len(payloads.npy_bytes(INPUT)) if compression == zipfile.ZIP_DEFLATED else 0
        assert inflated <= sum(charges) <= (1 + MEMORY_OF_CHUNK) * inflated


def test_a_small_body_can_be_decoded_again() -> None:
    for array in (INPUT, INPUT.astype(">f8")):
        body = bytearray(payloads.npz_bytes({"input": array}))
        original = bytes(body)
        for _ in range(2):
            decoded = NpzCodec().decode(body, RequestContext(("input",)), Limits(2**20, lambda _: None))
            assert decoded.tensors["input"].tolist() == INPUT.tolist()
        assert body == original


def test_a_stored_member_s_bits_are_checked() -> None:
    content = payloads.npz_bytes({"input": INPUT})
    body = bytearray(content)
    body[content.index(INPUT.tobytes()) + 5] ^= 1
    with pytest.raises(UnreadablePayload, match="damaged"):
        NpzCodec().decode(body, RequestContext(("input",)), UNLIMITED)
