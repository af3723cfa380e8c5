"""Let a coverage-guided fuzzer look for bodies that a codec cannot cope with: ``python -m reliability.fuzz_codecs``.

It needs atheris, and is left out where that is not installed. Whatever a codec raises must be a problem with the
request: any other exception is a finding, and so is more memory or time than a small body may take.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from .machine import machine

__all__ = ["corpora", "decoders", "fuzz", "main"]

Decode = Callable[[bytes], None]

OPERANDS = ("input", "weight", "bias", "grad_output")
RESULTS: dict[str, dict[str, Any]] = {
    "output": {},
    "indices": {"return_indices": True},
    "grad_input": {"wrt": ["input"]},
}
BOUNDARY = "limit"
V2, V2_BINARY = "v2", "v2-binary"
LENGTH_BYTES = 2
"""With which an input for the codec that needs a length in a header begins: the length."""
MOST_MEBIBYTES, MOST_SECONDS, MOST_BYTES = 1024, 10, 2**14
"""That a body may take, and that it may have."""
DECOMPRESSED = 2**24
LOG_END = 3000


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz each codec in a process of its own; return 1 if there is a finding."""
    names = list(decoders())
    parser = argparse.ArgumentParser(description="Fuzz what decodes the bodies of requests.")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="CODEC", help=", ".join(names))
    parser.add_argument("--seconds", type=float, default=60.0, help="for all codecs together (default: 60)")
    parser.add_argument("--findings", type=Path, default=Path("findings"), metavar="FOLDER", help="(default: findings)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="for all figures")
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("atheris") is None:
        print("codecs: left out, as atheris is not installed: it has no release for this Python or this system")
        return 0
    before, found, bodies = machine(), {}, corpora()
    for name in options.only:
        seconds = max(1, round(options.seconds / len(options.only)))
        found[name] = fuzzed(name, bodies[name], seconds, options.findings)
        print(f"{name}: {', '.join(f'{key} {value}' for key, value in found[name].items())}", flush=True)
    failed = [name for name, figures in found.items() if figures["exit_status"]]
    if options.json:
        criteria = {"no finding": not failed}
        result = {"program": "fuzz_codecs", **before, "figures": found, "criteria": criteria}
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return int(bool(failed))


def fuzzed(name: str, bodies: Sequence[bytes], seconds: int, findings: Path) -> dict[str, Any]:
    """Fuzz one codec, and return how often it was called, how many branches were reached, and how that ended."""
    findings.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        for index, body in enumerate(bodies):
            (Path(corpus) / str(index)).write_bytes(body)
        call = f"from {__spec__.name if __name__ == '__main__' else __name__} import fuzz; "
        call += f"fuzz({name!r}, {corpus!r}, {str(findings)!r}, {seconds})"
        ended = subprocess.run([sys.executable, "-c", call], capture_output=True, check=False)
    log = (ended.stdout + ended.stderr).decode(errors="replace")
    words = next((line.split() for line in reversed(log.splitlines()) if line.startswith("#") and "cov:" in line), [])
    figures: dict[str, Any] = {"calls": int(words[0].lstrip("#")) if words else 0}
    figures["branches"] = int(words[words.index("cov:") + 1]) if words else 0
    figures |= {"bodies": len(bodies), "exit_status": ended.returncode}
    if ended.returncode:
        print(log[:LOG_END], log[-LOG_END:], sep="\n[...]\n", file=sys.stderr)
    return figures


def fuzz(name: str, corpus: str, findings: str, seconds: int) -> None:
    """Fuzz one codec in this process, which must not have imported the codecs yet, and end the process."""
    import atheris  # noqa: PLC0415  (where it is installed)

    decode = decoders(atheris.instrument_imports(include=["service.codecs"]))[name]
    limits = [f"-rss_limit_mb={MOST_MEBIBYTES}", f"-timeout={MOST_SECONDS}", f"-max_len={MOST_BYTES}"]
    atheris.Setup([name, f"-max_total_time={seconds}", f"-artifact_prefix={findings}/{name}-", *limits, corpus], decode)
    atheris.Fuzz()


def decoders(instrumented: AbstractContextManager[Any] | None = None) -> dict[str, Decode]:
    """Return what takes a body and raises nothing but what it must not, for each codec.

    Parameters
    ----------
    instrumented : context manager, optional
        In which the codecs are imported.
    """
    with instrumented or contextlib.nullcontext():
        from service.codecs import CODECS  # noqa: PLC0415
        from service.codecs.v2 import V2BinaryCodec, V2Codec  # noqa: PLC0415

    found = {media_type.partition("/")[2]: decoder(codec) for media_type, codec in CODECS.items()}
    found[V2] = decoder(V2Codec(RESULTS, DECOMPRESSED))
    found[V2_BINARY] = decoder(V2BinaryCodec(RESULTS, DECOMPRESSED), has_length=True)
    return found


def decoder(codec: Any, *, has_length: bool = False) -> Decode:
    """Return what decodes a body with a codec, and lets only problems with the request pass."""
    from service.codecs import Limits, RequestContext  # noqa: PLC0415  (after they are instrumented)
    from service.codecs.v2 import HEADER_LENGTH  # noqa: PLC0415
    from service.problems import RequestProblem  # noqa: PLC0415

    def decode(data: bytes) -> None:
        headers, body = {}, bytearray(data)
        if has_length:
            headers = {HEADER_LENGTH: str(int.from_bytes(data[:LENGTH_BYTES], "little"))}
            del body[:LENGTH_BYTES]
        context = RequestContext(OPERANDS, {"boundary": BOUNDARY}, headers)
        if codec.reads_views:
            with contextlib.suppress(RequestProblem):
                codec.decode(memoryview(bytearray(body)), context, Limits(DECOMPRESSED, _charge))
        with contextlib.suppress(RequestProblem):
            codec.decode(body, context, Limits(DECOMPRESSED, _charge))

    return decode


def _charge(count: int) -> None:
    from service.problems import TooLarge  # noqa: PLC0415

    if count > DECOMPRESSED:
        raise TooLarge.of(
            "", "the request is too large", got=f"{count} bytes", expected=f"at most {DECOMPRESSED} bytes"
        )


def corpora() -> dict[str, list[bytes]]:
    """Return bodies that each codec reads, by its name: those of an example of every operation."""
    from service.codecs import CODECS  # noqa: PLC0415
    from tests.service import payloads  # noqa: PLC0415
    from tests.service.calls import EXAMPLES  # noqa: PLC0415
    from tests.service.v2 import messages  # noqa: PLC0415

    found: dict[str, list[bytes]] = {media_type.partition("/")[2]: [] for media_type in CODECS}
    found |= {V2: [], V2_BINARY: []}
    for call in EXAMPLES:
        for form, encode in payloads.ENCODERS.items():
            if form.startswith("multipart") or (form == "npy" and len(call.operands) > 1):
                continue
            options = encode(call.operands, call.parameters)
            found[options["headers"]["Content-Type"].partition("/")[2]].append(options["content"])
        parts = [payloads.file_part(name, payloads.npy_bytes(array)) for name, array in call.operands.items()]
        parts += [payloads.field_part(name, value) for name, value in payloads.as_texts(call.parameters).items()]
        found["form-data"].append(payloads.multipart_parts(parts, BOUNDARY))
        found[V2].append(messages.request(call.operands, call.parameters)["content"])
        options = messages.request(call.operands, call.parameters, binary=True)
        length = int(options["headers"][messages.LENGTH]).to_bytes(LENGTH_BYTES, "little")
        found[V2_BINARY].append(length + options["content"])
    return found


if __name__ == "__main__":
    sys.exit(main())
