"""What archives of cases are, byte for byte: the same for any Python, NumPy and machine.

Run as a program, this compares them under another Python, which needs the service's packages only:
``python -m tests.service.cases.digests``.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from typing import Any

import numpy as np

from service.cases.task import CasesTask
from service.cases.writers import WRITERS, CasesWriter, ComputedCases
from service.codecs import ResponseContext
from service.operations.catalogue import CATALOGUE

JSON, JSON_LINES = "application/json", "application/jsonl"
NPZ, SAFETENSORS = "application/x-npz", "application/vnd.safetensors"
BY_TYPE: dict[str, CasesWriter] = {writer.media_type: writer for writer in WRITERS}

DIGESTS = {
    ("conv", "random", "float32"): (
        "fd064eef45a81d3205665976d763aad3",
        "23716eb3807d7e00d70ef05ebacfbb8a",
        "8916671d974d800fe6646b5b8ce9543c",
        "7ad55ca3f935b72c25d822887c1337f2",
    ),
    ("conv", "integers", "float16"): (
        "dc9e9e0c83a8eb77ade209d95cf90fc9",
        "51736635e100bf4340e00d4e8ae46629",
        "977c26ab2bf003528feb6d45d9def338",
        "86bbfa33d0e1c6cb0943f35b8166dbc9",
    ),
    ("conv", "edges", "float64"): (
        "4957e114536af41c4afa5a3728816f2f",
        "73ff263363b3116c96c6e0358c1d7ef4",
        "b99fba7eb19f341e524f1060d50169c6",
        "f89a927afbdecf81732e4970b428fcd7",
    ),
    ("conv_transpose", "random", "float16"): (
        "513aeb58dad5ca1a92c1c16168c9a582",
        "1126f93a19d4fff176095be04a0ba698",
        "3209907dabe4249af3e4f126acb789ad",
        "116e636a6f8b6c3743d13f11515cb533",
    ),
    ("pool", "random", "float32"): (
        "85740b2b1ad7320c0fa289cbf54f8773",
        "530426c6863fc3543a7d7b060942a916",
        "8a97723236132eceabf8ed4d5f82e48c",
        "18f578c03e4589b3703c97926f0fa449",
    ),
    ("pool", "edges", "float32"): (
        "8e5473e8615856157719c495627d7217",
        "1992764968d0c84e6e4801354291bad8",
        "9cf3f04b86867f7b3a2e0593cb2457ba",
        "7f6293d553d534a783dfbba33e7e16c0",
    ),
    ("unpool", "random", "float64"): (
        "8e6bf406bc200b0bc0aab352af508993",
        "26b1a806efe32fbc163461e282305de3",
        "fe12c9f9270fbe9b1a322e8c9ed0c7cb",
        "60121bed38c7a6e50a3063de6feae6bf",
    ),
    ("unfold", "integers", "float32"): (
        "908ab1f210fc1db9dce3c13b37bbb25f",
        "2807ea74e5b947eb6f3504c78ef4a486",
        "dfd1c900b400f5aaa425b51d40da12d4",
        "0c58b57360b68ce6e74f04c8e5b3d997",
    ),
    ("fold", "random", "float64"): (
        "ad2cd439afc8c0e5197e2e3272f46419",
        "c8a7fc6d08afb580d9832b69319a8c6c",
        "2f59427979ba9dec16b72e9ca3f4f0de",
        "9d9632bfec7ba38bf20f6c05d592113a",
    ),
    ("conv_integer", "random", "int8"): (
        "8200d3c0c89748494ff0a6dbde73b9ef",
        "ad905dab06ff286b5bf78045fbc8dad3",
        "0648139ed80110a38358e282efc0c7d3",
        "6af4047254e43f3777557125e68f1b83",
    ),
    ("qlinear_conv", "random", "uint8"): (
        "1773818f18bdc9aff30d07f52f0aeb2c",
        "2bb3e3c65b8ef1dc6ac8165036de987b",
        "c3addaf2509125f8955be054a61093d0",
        "981c0e82f04d81e939372aaf90a27d35",
    ),
}
"""The start of SHA-256 of the bytes as npz, safetensors, JSON and JSON Lines."""


def computed(layer: str, **content: Any) -> ComputedCases:
    """The cases of a request."""
    (entry,) = (entry for entry in CATALOGUE if entry.name == layer)
    task = CasesTask(entry)
    return task.compute(task.plan(content, {}), {})


def written(cases: ComputedCases, media_type: str) -> bytes:
    """An archive of cases."""
    return b"".join(BY_TYPE[media_type].encode(cases, ResponseContext()).buffers)


def digests(layer: str, kind: str, dtype: str) -> tuple[str, ...]:
    """The digests of an archive in every format."""
    cases = computed(layer, kind=kind, dtype=dtype, count=5, seed=2026)
    types = (NPZ, SAFETENSORS, JSON, JSON_LINES)
    return tuple(hashlib.sha256(written(cases, media_type)).hexdigest()[:32] for media_type in types)


def main() -> None:
    """Compare all of them, and say which differ."""
    different = [request for request, expected in DIGESTS.items() if digests(*request) != expected]
    print(f"Python {platform.python_version()}, NumPy {np.__version__}: {len(DIGESTS) - len(different)} agree")  # noqa: T201
    sys.exit(f"different: {different}" if different else 0)


if __name__ == "__main__":
    main()
