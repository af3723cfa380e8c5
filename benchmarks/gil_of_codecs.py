"""Measure how long decoding and encoding hold the interpreter's lock, and what memory they take, for large bodies.

Usage: python benchmarks/gil_of_codecs.py [--mib SIZE] [WORDS OF A CASE ...]

Each case runs in a process of its own, on a thread.

step
    The longest that one instruction of the interpreter takes, in milliseconds of processor time: the lock can change
    hands between two instructions only, unless the instruction releases it. Other programs have little effect on it.
wait
    The longest time by which another thread overslept that sleeps a millisecond in a loop: how long an event loop would
    have waited. The interpreter asks for the lock after its switch interval, which is half a millisecond here. Whatever
    else runs on the machine adds to it.
time
    Of the processor, in milliseconds.
peak, process, charged
    Memory in addition to the body, in multiples of it, or of the results if they are encoded: the peak of what Python
    and NumPy allocate, the peak of the process, and what was charged.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import math
import re
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from service.codecs import CODECS, Limits, RequestContext, ResponseContext
from service.codecs.v2 import V2Codec
from service.http.compression import compressed, decompressed
from service.problems import RequestProblem

MIB = 2**20
SIZE = (int(sys.argv[sys.argv.index("--mib") + 1]) if "--mib" in sys.argv else 30) * MIB
OPERANDS = ["input", "weight"]

JSON, NPY, NPZ, SAFETENSORS, FORM = CODECS

Work = Callable[[Callable[[int], None]], Any]
"""Does what is measured; it is given what charges memory."""


# ---------------------------------------------------------------------------------------------------------------- cases


def repeated(item: str, size: int = SIZE) -> str:
    """Return a list of an item, over and over."""
    return f"[{','.join([item] * (size // (len(item) + 1)))}]"


def object_of(text: str, dtype: str = "float32") -> str:
    return f'{{"dtype": "{dtype}", "input": {text}}}'


def flat(text: str, count: int, dtype: str = "float32") -> str:
    return f'{{"input": {{"dtype": "{dtype}", "shape": [{count}], "data": {text}}}}}'


def floats(count: int = SIZE // 11) -> str:
    numbers = np.random.default_rng(0).standard_normal(count).astype(np.float32)
    return f"[{','.join(numbers.astype(str))}]"


def base64_of(text: str, size: int) -> str:
    return f'{{"input": {{"dtype": "uint8", "shape": [{size}], "base64": "{text}"}}}}'


def v2_text(text: str, count: int) -> str:
    return f'{{"inputs": [{{"name": "input", "shape": [{count}], "datatype": "FP32", "data": {text}}}]}}'


ONES = repeated("1")
COUNT = ONES.count(",") + 1

JSON_BODIES: dict[str, Callable[[], str | bytes]] = {
    "one-digit integers": lambda: object_of(ONES),
    "one-digit integers to float64": lambda: object_of(ONES, "float64"),
    "one-digit integers to uint8": lambda: object_of(ONES, "uint8"),
    "floats": lambda: object_of(floats()),
    "flat floats": lambda: flat(floats(SIZE // 11), SIZE // 11),
    "one channel": lambda: object_of(repeated("[0.123456]")),
    "tiny lists, deep": lambda: object_of(repeated("[[[[1]]]]")),
    "rows of 20": lambda: object_of(repeated(repeated("0.123456", 180))),
    "spaces and lines": lambda: object_of(repeated("[\n  1.5, 2.5,\n  3.5\n]")),
    "long string": lambda: object_of(f'"{"a" * SIZE}"'),
    "long string of escapes": lambda: object_of('"' + "\\u00e9" * (SIZE // 6) + '"'),
    "base64": lambda: base64_of(base64.b64encode(bytes(SIZE // 4 * 3)).decode(), SIZE // 4 * 3),
    "base64 with escapes": lambda: base64_of("\\/" * (SIZE // 2), SIZE // 8 * 3),
    "whitespace": lambda: " " * SIZE,
    "whitespace in a list": lambda: object_of("[1," + " " * SIZE + "2]"),
    "opening brackets": lambda: object_of("[" * SIZE),
    "levels": lambda: object_of("[" * 900 + ONES + "]" * 900),
    "million members": lambda: "{" + ",".join(f'"{i}":1' for i in range(SIZE // 12)) + "}",
    "float16 ties": lambda: object_of(repeated("2049.0", SIZE // 16), "float16"),
    "float32 ties": lambda: object_of(repeated("16777217.0", SIZE // 16), "float32"),
    "long digits": lambda: object_of(repeated("0." + "3" * 800, SIZE // 4)),
    "one number": lambda: object_of("[1," + "1" * SIZE + "]"),
    "minus zeros": lambda: object_of(repeated("-0")),
    "a string at the end": lambda: object_of(ONES[:-1] + ',"a"]'),
    "null at the end": lambda: object_of(ONES[:-1] + ",null]"),
    "an object at the end": lambda: object_of(ONES[:-1] + ',{"a": 1}]'),
    "strings among numbers": lambda: object_of(repeated('1,2,3,4,5,6,7,8,9,"a"' + ",1" * 4000)),
    "ragged at the end": lambda: object_of(repeated(repeated("1", 100))[:-1] + ",[1]]"),
    "syntax error at the end": lambda: object_of(ONES[:-1] + ",]"),
    "not UTF-8 at the end": lambda: object_of(ONES).encode() + b"\xff",
    "beyond float64 at the end": lambda: object_of(ONES[:-1] + ",1e999]"),
    "lines, then an error": lambda: "\n" * SIZE + "x",
    "long unknown member": lambda: f'{{"inputs": {ONES}}}',
    "literals": lambda: object_of(repeated("null")),
    "no JSON": lambda: b"\x93abc" * (SIZE // 4),
}
V2_BODIES: dict[str, Callable[[], str]] = {
    "V2, integers": lambda: v2_text(ONES, COUNT),
    "V2, floats": lambda: v2_text(floats(), SIZE // 11),
    "V2, long shape": lambda: v2_text("[1]", 1).replace("[1]", ONES, 1),
    "V2, long id": lambda: f'{{"id": "{"a" * SIZE}", "inputs": []}}',
    "V2, long parameter": lambda: f'{{"inputs": [], "parameters": {{"a": {ONES}}}}}',
}


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(array: Any, method: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("input.npy", npy(array))
    return file.getvalue()


def tensor(dtype: str = "float32") -> Any:
    return np.random.default_rng(0).standard_normal(2 * SIZE // np.dtype(dtype).itemsize).astype(dtype).reshape(4, -1)


def safetensors(start: int) -> bytes:
    header = json.dumps({"input": {"dtype": "F32", "shape": [SIZE // 2], "data_offsets": [0, 2 * SIZE]}}).encode()
    header += b" " * ((start - len(header)) % 8)
    return len(header).to_bytes(8, "little") + header + bytes(2 * SIZE)


def form(content: bytes, boundary: bytes = b"x") -> bytes:
    head = b'Content-Disposition: form-data; name="input"; filename="input.npy"'
    return b"--%b\r\n%b\r\n\r\n%b\r\n--%b--\r\n" % (boundary, head, content, boundary)


LIKE_A_BOUNDARY = b"a" * 60

OTHER_BODIES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "npy": (NPY, lambda: npy(tensor())),
    "npy, other byte order": (NPY, lambda: npy(tensor(">f4"))),
    "npy, Fortran order": (NPY, lambda: npy(np.asfortranarray(tensor()))),
    "npy, not aligned": (
        NPY,
        lambda: npy(tensor())[:8] + b"\x77" + npy(tensor())[9:127] + b" \n" + npy(tensor())[128:],
    ),
    "npz, stored": (NPZ, lambda: npz(tensor(), zipfile.ZIP_STORED)),
    "npz, deflated": (NPZ, lambda: npz(np.repeat(tensor()[:, ::8], 16, 1), zipfile.ZIP_DEFLATED)),
    "npz, zeros": (NPZ, lambda: npz(np.zeros((4 * SIZE,), np.uint8), zipfile.ZIP_DEFLATED)),
    "npz, no zip": (NPZ, lambda: b"PK\x01" * (SIZE // 2)),
    "safetensors, not aligned": (SAFETENSORS, lambda: safetensors(3)),
    "form": (FORM, lambda: form(npy(tensor()))),
    "form, like a boundary": (FORM, lambda: form(b"\r\n--" + (b"b" + LIKE_A_BOUNDARY) * MIB, LIKE_A_BOUNDARY + b"a")),
    "form, long field": (FORM, lambda: form(b"a" * 2 * SIZE).replace(b"input", b"stride")),
}


def decoding(codec: Any, body: bytes, options: dict[str, str] | None = None) -> Work:
    request = RequestContext(OPERANDS if codec.media_type != NPY else ["input"], options or {})

    def decode(charge: Callable[[int], None]) -> None:
        try:
            codec.decode(bytearray(body), request, Limits(128 * MIB, charge))
        except RequestProblem as problem:
            print(f"{problem}"[:90], file=sys.stderr)

    return decode


def encoding(codec: Any, array: Any, options: dict[str, Any]) -> Work:
    response = ResponseContext(options, "conv_forward")

    def encode(_: Callable[[int], None]) -> None:
        codec.encode({"output": array}, response)

    return encode


def cases() -> dict[str, Callable[[], tuple[Work, int]]]:
    """Return, by name, what prepares a case: its work, and the size of its body or results."""
    found: dict[str, Callable[[], tuple[Work, int]]] = {}

    def add_decoding(name: str, codec: Any, make: Callable[[], str | bytes], options: dict[str, str]) -> None:
        def prepare() -> tuple[Work, int]:
            made = make()
            body = made.encode() if isinstance(made, str) else made
            return decoding(codec, body, options), len(body)

        found[name] = prepare

    for name, make in JSON_BODIES.items():
        add_decoding(name, CODECS[JSON], make, {})
    for name, make in V2_BODIES.items():
        add_decoding(name, V2Codec({"output": {}}, 32 * MIB), make, {})
    for name, (media_type, make_bytes) in OTHER_BODIES.items():
        boundary = LIKE_A_BOUNDARY.decode() + "a" if "like" in name else "x"
        add_decoding(name, CODECS[media_type], make_bytes, {"boundary": boundary})

    def prepare_gzip() -> tuple[Work, int]:
        body = gzip.compress(object_of(floats()).encode(), 1)
        return lambda charge: decompressed(body, "gzip", 64 * MIB, charge), len(body)

    def prepare_gzip_encoding() -> tuple[Work, int]:
        body = object_of(floats()).encode()
        return lambda charge: compressed([body], "gzip", charge), len(body)

    found["gzip"], found["encode, gzip"] = prepare_gzip, prepare_gzip_encoding

    def add_encoding(name: str, codec: Any, shape: tuple[int, ...], dtype: str, options: dict[str, Any]) -> None:
        def prepare() -> tuple[Work, int]:
            import ml_dtypes  # noqa: F401, PLC0415  (registers bfloat16)

            array = np.ones(math.prod(shape), np.float32).astype(dtype).reshape(shape)
            return encoding(codec, array, options), array.nbytes

        found[name] = prepare

    for form_of in ("nested", "flat", "base64"):
        options = {"form": form_of}
        add_encoding(f"encode, {form_of}", CODECS[JSON], (8, 512, 512, 16), "float32", options)
        add_encoding(f"encode, {form_of}, bfloat16", CODECS[JSON], (8, 512, 512, 16), "bfloat16", options)
    add_encoding("encode, one channel", CODECS[JSON], (8, 1024, 1024, 1), "float32", {"form": "nested"})
    add_encoding("encode, empty lists", CODECS[JSON], (4 * MIB, 0), "float32", {"form": "nested"})
    v2_options = {"id": None, "outputs": {}, "is_binary": False}
    add_encoding("encode, V2", V2Codec({}, 1), (8, 512, 512, 16), "float32", v2_options)
    add_encoding("encode, npz", CODECS[NPZ], (8, 1024, 1024, 4), "float32", {})
    add_encoding("encode, npy, bfloat16", CODECS[NPY], (8, 1024, 1024, 4), "bfloat16", {})
    return found


# ------------------------------------------------------------------------------------------------------------ measuring


def on_a_thread(work: Callable[[], Any]) -> tuple[float, float]:
    """Return by how much a thread that sleeps a millisecond overslept at most while another worked, and its time."""
    taken: list[float] = []

    def timed() -> None:
        work()
        taken.append(time.thread_time())

    thread = threading.Thread(target=timed)
    longest = 0.0
    thread.start()
    last = time.perf_counter()
    while thread.is_alive():
        time.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last - 0.001), now
    return longest, taken[0]


def longest_step(work: Callable[[], Any]) -> tuple[float, str]:
    """Return the longest time of one instruction, and where it is."""
    longest, place, last, before = 0.0, "", 0.0, ""

    def trace(frame: Any, *_: Any) -> Any:
        nonlocal longest, place, last, before
        now = time.thread_time()
        if before and now - last > longest:
            longest, place = now - last, before
        frame.f_trace_opcodes = True
        file = frame.f_code.co_filename
        before = f"{Path(file).name}:{frame.f_lineno}" if file != __file__ else ""  # not the copy of a body
        last = time.thread_time()
        return trace

    def traced() -> None:
        sys.settrace(trace)
        work()
        sys.settrace(None)

    thread = threading.Thread(target=traced)
    thread.start()
    thread.join()
    return longest, place


def process_memory(name: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def measure(name: str) -> None:
    """Measure one case and print its row."""
    sys.setswitchinterval(0.0005)
    work, size = cases()[name]()
    charged: list[int] = []
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = process_memory("VmRSS")
    wait, taken = on_a_thread(lambda: work(charged.append))
    resident = process_memory("VmHWM") - before
    step, place = longest_step(lambda: work(lambda _: None))
    tracemalloc.start()
    work(lambda _: None)
    peak = tracemalloc.get_traced_memory()[1]
    copied = 0 if name.startswith(("encode", "gzip")) else size
    memory = (peak - copied, resident - copied, sum(charged))
    print(
        f"{name:32}{1000 * step:7.1f}{1000 * wait:8.1f}{1000 * taken:9.0f}",
        *(f"{each / size:8.2f}" for each in memory),
        f"  {place}",
        flush=True,
    )


def main() -> None:
    if "--case" in sys.argv:
        measure(sys.argv[sys.argv.index("--case") + 1])
        return
    options = ["--mib", str(SIZE // MIB)]
    words = [word for word in sys.argv[1:] if word not in options]
    print(f"{'':32}{'step':>7}{'wait':>8}{'time':>9} {'peak':>8} {'process':>8} {'charged':>8}")
    for name in cases():
        if all(word in name for word in words):
            subprocess.run([sys.executable, __file__, *options, "--case", name], check=False, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
