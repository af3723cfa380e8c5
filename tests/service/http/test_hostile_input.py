"""Hostile npy, npz and multipart bodies, and tiny requests of a huge cost: refused at once, by a small answer."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.clients import ApplicationClient
from tests.service import payloads
from tests.service.payloads import MARKER, MULTIPART, NPY, NPZ, attacked, file_part, npy_header, npy_with_header

INPUT = np.arange(4.0).reshape(1, 4, 1)
FILE = payloads.npy_bytes(INPUT)
DATA = INPUT.tobytes()
POOL = {"mode": "max", "kernel_size": "2"}
POOL_FIELDS = [payloads.field_part(name, value) for name, value in POOL.items()]
NAME = MARKER.decode()


def npy(content: bytes) -> dict[str, Any]:
    return payloads.typed(NPY, content, params=POOL)


def npz(content: bytes) -> dict[str, Any]:
    return payloads.typed(NPZ, content, params=POOL)


def multipart(content: bytes, content_type: str = f"{MULTIPART}; boundary=limit") -> dict[str, Any]:
    return payloads.typed(content_type, content)


@pytest.fixture(scope="module")
def zeros() -> bytes:
    """100 MB, for bombs."""
    return bytes(100_000_000)


# ----------------------------------------------------------------------------------------------------------------- npy


class Dangerous:
    """Unpickling this fails the test that sent it, by an exception that no one expects."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return pytest.fail, (NAME,)


def pickled_npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Dangerous()], dtype=object), allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        pickled_npy(),
        pickle.dumps(Dangerous()),
        pickle.dumps([Dangerous()], protocol=0),
        npy_with_header(npy_header("|O"), pickle.dumps([Dangerous()])),
        npy_with_header(npy_header("|O", (10**12,)), pickle.dumps(Dangerous())),
        npy_with_header(npy_header([("a", "|O")], (1,)), pickle.dumps(Dangerous())),
    ],
)
def test_pickles_are_not_read(client: ApplicationClient, content: bytes) -> None:
    attacked(client, "/pool/forward", 400, 422, **npy(content))
    attacked(client, "/pool/forward", 400, 422, **npz(payloads.zip_bytes([("input.npy", content)])))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_a_header_over_4_kib_is_refused(client: ApplicationClient, version: tuple[int, int]) -> None:
    for length, size in enumerate((4097, 10_001, 65_535 if version == (1, 0) else 5_000_000)):
        header = npy_header().rstrip().ljust(size - 1) + "\n"
        assert len(header) == size, length
        attacked(client, "/pool/forward", 400, **npy(npy_with_header(header, DATA, version)))


def test_a_padded_header_below_4_kib_is_read(client: ApplicationClient) -> None:
    header = npy_header().rstrip().ljust(3999) + "\n"
    response = client.post("/pool/forward", **npy(npy_with_header(header, DATA)))
    assert payloads.results(response, ["output"])["output"].reshape(-1).tolist() == [1.0, 3.0]


BROKEN_HEADERS = [
    *["(" * 2000, "[" * 4000, "{1:" * 1000, "-" * 4000 + "1", "(" * 1500 + ")" * 1500, "1+" * 2000 + "1", "a." * 2000],
    *["", "\n", "{", "{}", "None", "[]", "1", "()", "{1, 2}", "'", "'''", "\\", "\x00" * 100, "\xff\xfe", "lambda: 0"],
    *["{'descr': '<f8'}", "{'descr': '<f8', 'shape': (1, 4, 1)}", f"__import__('{NAME}')", f"{{'{NAME}': 1}}"],
    npy_header().replace("}", "'more': 1}"),
    npy_header().replace("}", f"'{NAME}': '{NAME}'}}"),
    npy_header().replace("(1, 4, 1)", "(1, 4, 1"),
    npy_header().replace("(1, 4, 1)", "(1, 4, open('/etc/passwd'))"),
    npy_header().replace("'<f8'", "'<f8'*10**9"),
    npy_header() * 2,
]
BROKEN_SHAPES: list[Any] = [
    *[4, [1, 4, 1], None, "1, 4, 1", (-1, 4, 1), (-1, -4, 1), (1.0, 4, 1), (True, 4, 1), ("1", 4, 1), ((1,), 4, 1)],
    *[(1,) * 65 + (4,), (1,) * 1000, (10**12,), (2**31, 2**31, 2**31), (2**63,), (2**64, 1, 1), (10**400,)],
    *[(0, 10**30, 1), (-(2**63), 1, 1), (1, 4, 2**62), (4.5,), (1, 4, 1e300), (1, 3, 1), (1, 5, 1)],
]
BROKEN_DTYPES: list[Any] = [
    *["|V0", "<U0", "|S0", "|V8", "<U2", "|S8", "<c8", "<c16", "<M8[s]", "<m8[s]", "<M8", "|b1", "?", "<f16", "g"],
    *["<f1", "<i3", "<f8,<f8", "(2,)<f4", [("a", "<f8")], [("a", "<f4"), ("b", "<f4")], [], (), {}, None, 8, 8.0, True],
    *[("<f8", (1,)), ("<f8", {"metadata": 1}), {"names": ["a"], "formats": ["<f8"]}, "", "<", NAME, [NAME] * 20],
    *["|V1000000000", "<U100000000", [("a", "<f8", (10**9,))], "O8", "<f8" * 300, "🦆"],
]


@pytest.mark.parametrize("header", BROKEN_HEADERS, ids=lambda header: ascii(header)[:30])
def test_broken_headers(client: ApplicationClient, header: str) -> None:
    attacked(client, "/pool/forward", 400, 422, **npy(npy_with_header(header, DATA)))
    attacked(client, "/pool/forward", 400, 422, **npy(npy_with_header(header, DATA, (3, 0))))


@pytest.mark.parametrize("shape", BROKEN_SHAPES, ids=lambda shape: str(shape)[:30])
@pytest.mark.parametrize("descr", ["<f8", "|i1"])
def test_a_shape_that_does_not_fit_the_data(client: ApplicationClient, shape: Any, descr: str) -> None:
    with payloads.little_memory():
        document = attacked(
            client, "/pool/forward", 400, 413, 422, **npy(npy_with_header(npy_header(descr, shape), DATA))
        )
    assert payloads.pointers(document) == ["/input"]


@pytest.mark.parametrize("descr", BROKEN_DTYPES, ids=lambda descr: ascii(descr)[:30])
def test_a_dtype_that_is_no_real_number(client: ApplicationClient, descr: Any) -> None:
    for shape in [(1, 4, 1), (1, 2, 1), (0, 1, 1), (10**12, 1, 1)]:
        content = npy_with_header(npy_header(descr, shape).encode("utf-8"), DATA, (3, 0))
        with payloads.little_memory():
            document = attacked(client, "/pool/forward", 400, 422, **npy(content))
        assert payloads.pointers(document) == ["/input"]


@pytest.mark.parametrize("fortran_order", [None, 0, 2, "True", [], (), NAME])
def test_a_fortran_order_that_is_no_bool(client: ApplicationClient, fortran_order: Any) -> None:
    header = npy_header(fortran_order=fortran_order)
    attacked(client, "/pool/forward", 400, **npy(npy_with_header(header, DATA)))


@pytest.mark.parametrize("version", [(0, 0), (0, 1), (1, 1), (4, 0), (9, 9), (255, 255)])
def test_an_unknown_version_of_npy(client: ApplicationClient, version: tuple[int, int]) -> None:
    attacked(client, "/pool/forward", 400, **npy(FILE[:6] + bytes(version) + FILE[8:]))


def test_every_cut_of_an_npy(client: ApplicationClient) -> None:
    for length in range(len(FILE)):
        attacked(client, "/pool/forward", 400, **npy(FILE[:length]))


@pytest.mark.parametrize("more", [b"\x00", b"\n", bytes(8), FILE, MARKER * 1000])
def test_trailing_bytes(client: ApplicationClient, more: bytes) -> None:
    attacked(client, "/pool/forward", 400, **npy(FILE + more))
    attacked(client, "/pool/forward", 400, **npz(payloads.zip_bytes([("input.npy", FILE + more)])))
    parts = [*POOL_FIELDS, file_part("input", FILE + more)]
    attacked(client, "/pool/forward", 400, **multipart(payloads.multipart_parts(parts)))


@pytest.mark.parametrize("length", [2**16 - 1, 2**31, 2**32 - 1])
def test_a_header_length_beyond_the_file(client: ApplicationClient, length: int) -> None:
    content = b"\x93NUMPY\x02\x00" + length.to_bytes(4, "little") + MARKER
    with payloads.little_memory():
        attacked(client, "/pool/forward", 400, **npy(content))


# ----------------------------------------------------------------------------------------------------------------- npz


def patched(archive: bytes, local: int, central: int, layout: str, value: int) -> bytes:
    """Overwrite a field of the first entry, in its local header and in the central directory."""
    changed = bytearray(archive)
    struct.pack_into(layout, changed, local, value)
    struct.pack_into(layout, changed, archive.index(b"PK\x01\x02") + central, value)
    return bytes(changed)


def with_directory(archive: bytes, directory: bytes, count: int) -> bytes:
    """The archive with another central directory."""
    start = archive.index(b"PK\x01\x02")
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(directory), start, 0)
    return archive[:start] + directory + end


def directory_of(archive: bytes) -> bytes:
    return archive[archive.index(b"PK\x01\x02") : archive.index(b"PK\x05\x06")]


ARCHIVE = payloads.zip_bytes([("input.npy", FILE)])
DEFLATED = payloads.zip_bytes([("input.npy", FILE)], zipfile.ZIP_DEFLATED)
ENTRY = directory_of(ARCHIVE)
OTHER_ENTRY = ENTRY.replace(b"input.npy", b"bogus.npy")
BROKEN_ARCHIVES = {
    "encrypted": patched(ARCHIVE, 6, 8, "<H", 1),
    "strongly_encrypted": patched(ARCHIVE, 6, 8, "<H", 0x41),
    "patched_data_flag": patched(ARCHIVE, 6, 8, "<H", 0x20),
    "unknown_method": patched(ARCHIVE, 8, 10, "<H", 99),
    "deflate64": patched(DEFLATED, 8, 10, "<H", 9),
    "stored_as_deflated": patched(ARCHIVE, 8, 10, "<H", 8),
    "deflated_as_stored": patched(DEFLATED, 8, 10, "<H", 0),
    "wrong_crc": patched(ARCHIVE, 14, 16, "<L", 1),
    "wrong_crc_deflated": patched(DEFLATED, 14, 16, "<L", 1),
    "compressed_size_too_large": patched(ARCHIVE, 18, 20, "<L", 10**6),
    "compressed_size_too_small": patched(DEFLATED, 18, 20, "<L", 5),
    "size_too_large": patched(DEFLATED, 22, 24, "<L", 10**6),
    "size_too_small": patched(DEFLATED, 22, 24, "<L", 140),
    "size_zero": patched(DEFLATED, 22, 24, "<L", 0),
    "changed_data": ARCHIVE.replace(DATA[8:16], bytes(8)),
    "overlapping": with_directory(ARCHIVE, ENTRY + OTHER_ENTRY, 2),
    "directory_twice": with_directory(ARCHIVE, ENTRY * 2, 2),
    "local_offset_beyond": with_directory(ARCHIVE, ENTRY[:42] + struct.pack("<L", 10**9) + ENTRY[46:], 1),
    "local_offset_wrong": with_directory(ARCHIVE, ENTRY[:42] + struct.pack("<L", 7) + ENTRY[46:], 1),
    "other_local_name": ARCHIVE.replace(b"input.npy", b"bogus.npy", 1),
    "directory_cut": with_directory(ARCHIVE, ENTRY[:-5], 1),
    "empty": payloads.zip_bytes([]),
    "end_only": b"PK\x05\x06",
    "no_zip": b"PK\x03\x04" + MARKER * 100,
    "an_npy": FILE,
    "nothing": b"",
    "lzma": payloads.zip_bytes([("input.npy", FILE)], zipfile.ZIP_LZMA),
    "bzip2": payloads.zip_bytes([("input.npy", FILE)], zipfile.ZIP_BZIP2),
    "non_npy_content": payloads.zip_bytes([("input.npy", MARKER)]),
    "a_zip_in_the_zip": payloads.zip_bytes([("input.npy", ARCHIVE)]),
}


@pytest.mark.parametrize("archive", BROKEN_ARCHIVES.values(), ids=BROKEN_ARCHIVES.keys())
def test_broken_archives(client: ApplicationClient, archive: bytes) -> None:
    with payloads.little_memory():
        attacked(client, "/pool/forward", 400, 415, 422, **npz(archive))


def test_every_cut_of_an_npz(client: ApplicationClient) -> None:
    for length in range(0, len(DEFLATED), 3):
        attacked(client, "/pool/forward", 400, **npz(DEFLATED[:length]))


MEMBERS = [
    *[
        NAME,
        f"{NAME}.npy",
        "input",
        "input.npz",
        "input.npy.txt",
        "README.md",
        "../input.npy",
        "/input.npy",
        "a/input.npy",
    ],
    *["INPUT.NPY", "input.npy/", "input/", ".npy", "", "input\\.npy", "ïnput.npy", "input .npy", "con" + "x" * 60_000],
]


@pytest.mark.parametrize("name", MEMBERS, ids=lambda name: ascii(name)[:30])
@pytest.mark.parametrize("alone", [True, False])
def test_only_known_members(client: ApplicationClient, name: str, alone: bool) -> None:
    members = [(name, FILE)] if alone else [("input.npy", FILE), (name, FILE)]
    attacked(client, "/pool/forward", 400, 422, **npz(payloads.zip_bytes(members)))


def test_duplicate_members(client: ApplicationClient) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive = payloads.zip_bytes([("input.npy", FILE), ("input.npy", FILE)])
    attacked(client, "/pool/forward", 400, 422, **npz(archive))


def test_a_bomb_whose_tensor_is_small(client: ApplicationClient, zeros: bytes) -> None:
    archive = payloads.zip_bytes([("input.npy", FILE + zeros)], zipfile.ZIP_DEFLATED)
    assert len(archive) < 100_000
    with payloads.little_memory(150 * 2**20):
        attacked(client, "/pool/forward", 400, 413, **npz(archive))


def test_a_bomb_of_an_unknown_member_is_not_inflated(client: ApplicationClient, zeros: bytes) -> None:
    archive = payloads.zip_bytes([(f"{NAME}.npy", zeros), ("input.npy", FILE)], zipfile.ZIP_DEFLATED)
    with payloads.little_memory():
        attacked(client, "/pool/forward", 400, 422, **npz(archive))


@pytest.mark.parametrize("declared", [0, 1, len(FILE), 100_000, 2**32 - 1])
def test_a_bomb_that_lies_about_its_size(client: ApplicationClient, zeros: bytes, declared: int) -> None:
    archive = payloads.zip_bytes([("input.npy", FILE + zeros)], zipfile.ZIP_DEFLATED)
    with payloads.little_memory():
        attacked(client, "/pool/forward", 400, 413, **npz(patched(archive, 22, 24, "<L", declared)))


def test_sizes_are_summed_before_anything_is_inflated(client: ApplicationClient) -> None:
    """The real content is small; the directory says 1 GB for each of two members."""
    archive = payloads.zip_bytes([("input.npy", FILE), ("weight.npy", FILE)], zipfile.ZIP_DEFLATED)
    archive = patched(archive, 22, 24, "<L", 10**9)
    attacked(client, "/conv/forward", 413, **npz(archive))


@pytest.mark.parametrize("entry", [ENTRY, OTHER_ENTRY], ids=["same_name", "unknown_name"])
def test_a_directory_of_100_000_entries(client: ApplicationClient, entry: bytes) -> None:
    attacked(client, "/pool/forward", 400, 413, 422, **npz(with_directory(ARCHIVE, entry * 100_000, 34_464)))


# ----------------------------------------------------------------------------------------------------------- multipart

GOOD_PARTS = [*POOL_FIELDS, file_part("input", FILE)]
GOOD = payloads.multipart_parts(GOOD_PARTS)
DISPOSITION = 'Content-Disposition: form-data; name="input"; filename="x"'


def with_part(header: str, content: bytes = FILE) -> bytes:
    return payloads.multipart_parts([*POOL_FIELDS, (header, content)])


def test_the_parts_that_the_others_vary_are_good(client: ApplicationClient) -> None:
    assert client.post("/pool/forward", **multipart(GOOD)).status_code == 200
    assert client.post("/pool/forward", **multipart(with_part(DISPOSITION))).status_code == 200


@pytest.mark.parametrize(
    "content_type",
    [
        MULTIPART,
        f"{MULTIPART};",
        f"{MULTIPART}; boundary",
        f"{MULTIPART}; boundary=",
        f'{MULTIPART}; boundary=""',
        f"{MULTIPART}; boundary=other",
        f"{MULTIPART}; boundary=limit2",
        f"{MULTIPART}; boundary={NAME}",
        f"{MULTIPART}; boundary=" + "x" * 10_000,
        f"{MULTIPART}; boundary*=utf-8''limit",
        f"{MULTIPART}; limit",
    ],
    ids=lambda value: value[19:60],
)
def test_no_boundary_or_another(client: ApplicationClient, content_type: str) -> None:
    attacked(client, "/pool/forward", 400, 415, **multipart(GOOD, content_type))


BROKEN_FORMS = {
    "empty": b"",
    "end_only": b"--limit--\r\n",
    "start_only": b"--limit\r\n",
    "no_blank_line": b"--limit\r\n" + DISPOSITION.encode() + b"\r\n" + FILE + b"\r\n--limit--\r\n",
    "no_end": GOOD[: GOOD.rindex(b"--limit--")],
    "no_disposition": with_part("Content-Type: application/octet-stream"),
    "no_name": with_part('Content-Disposition: form-data; filename="x"'),
    "empty_name": with_part('Content-Disposition: form-data; name=""; filename="x"'),
    "unknown_file": with_part(f'Content-Disposition: form-data; name="{NAME}"; filename="x"'),
    "another_operand": with_part('Content-Disposition: form-data; name="weight"; filename="x"'),
    "long_name": with_part('Content-Disposition: form-data; name="' + "x" * 2000 + '"; filename="x"'),
    "attachment": with_part('Content-Disposition: attachment; name="input"; filename="x"'),
    "no_header_value": with_part("Content-Disposition"),
    "huge_header": with_part(f"{DISPOSITION}\r\nX-Header: {NAME}" + "x" * 1_000_000),
    "huge_file_name": with_part('Content-Disposition: form-data; name="input"; filename="' + "x" * 1_000_000 + '"'),
    "many_headers": with_part(DISPOSITION + "\r\nX-Header: 1" * 10_000),
    "base64_part": with_part(f"{DISPOSITION}\r\nContent-Transfer-Encoding: base64", b"k05VTVBZAQB2"),
    "nested_multipart": with_part(f"{DISPOSITION}\r\nContent-Type: multipart/mixed; boundary=inner", GOOD),
    "pickle": with_part(DISPOSITION, pickle.dumps(Dangerous())),
    "other_content": with_part(DISPOSITION, MARKER * 1000),
    "operand_twice": payloads.multipart_parts([*GOOD_PARTS, file_part("input", FILE)]),
    "operand_as_field": payloads.multipart_parts([*POOL_FIELDS, payloads.field_part("input", "[[[1]]]")]),
    "no_file": payloads.multipart_parts(POOL_FIELDS),
    "no_field": payloads.multipart_parts([file_part("input", FILE)]),
    "field_not_utf8": payloads.multipart_parts([*GOOD_PARTS, ('Content-Disposition: form-data; name="ties"', b"\xff")]),
    "name_not_utf8": payloads.multipart_parts([*GOOD_PARTS, ('Content-Disposition: form-data; name="\xff\xfe"', b"1")]),
    "huge_field": payloads.multipart_parts([*GOOD_PARTS, payloads.field_part("ties", "x" * 3_000_000)]),
    "deep_field": payloads.multipart_parts([*GOOD_PARTS, payloads.field_part("stride", "[" * 100_000)]),
    "digits_field": payloads.multipart_parts([*GOOD_PARTS, payloads.field_part("stride", "9" * 5000)]),
    "files_10_000": payloads.multipart_parts([*GOOD_PARTS, *[file_part("input", b"")] * 10_000]),
    "fields_10_000": payloads.multipart_parts([*GOOD_PARTS, *[payloads.field_part("stride", "1")] * 10_000]),
    "names_10_000": payloads.multipart_parts(
        [*GOOD_PARTS, *[payloads.field_part(f"{NAME} {n}", "1") for n in range(10_000)]]
    ),
    "only_carriage_returns": b"\r" * 2_000_000,
    "only_line_ends": b"\r\n" * 1_000_000,
    "almost_boundaries": b"\r\n--limi" * 500_000,
}


@pytest.mark.parametrize("form", BROKEN_FORMS.values(), ids=BROKEN_FORMS.keys())
def test_broken_forms(client: ApplicationClient, form: bytes) -> None:
    attacked(client, "/pool/forward", 400, 413, 422, **multipart(form))


def test_every_cut_of_a_form(client: ApplicationClient) -> None:
    for length in range(0, len(GOOD) - len("--\r\n"), 7):
        attacked(client, "/pool/forward", 400, 422, **multipart(GOOD[:length]))


@pytest.mark.parametrize("padding", [b" ", b"\t", b" \t \t", b" " * 2_000_000])
def test_blanks_after_a_boundary_end_with_the_line(client: ApplicationClient, padding: bytes) -> None:
    with_padding = GOOD.replace(b"--limit", b"--limit" + padding)  # "--limit" + padding + "--" ends nothing
    attacked(client, "/pool/forward", 400, **multipart(with_padding))
    attacked(client, "/pool/forward", 400, **multipart(GOOD.replace(b"--limit\r\n", b"--limit" + padding + b"x\r\n")))


@pytest.mark.parametrize("line", [b"\r\n--limit ", b"\r\n--limit" + b" " * 1000, b"\r\n--limit-- "])
def test_floods_of_padded_boundary_lines(client: ApplicationClient, line: bytes) -> None:
    attacked(client, "/pool/forward", 400, 422, **multipart(line * (2_000_000 // len(line))))
