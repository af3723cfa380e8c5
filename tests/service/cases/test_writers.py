"""The archives: what is in them, that common readers read them, and that their bytes never change."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

import cnn_core
from service.cases.task import CasesTask
from service.cases.writers import WRITERS, CasesWriter, ComputedCases
from service.codecs import ResponseContext
from tests.service import payloads
from tests.service.cases.oracles import ENTRIES

JSON, JSON_LINES = "application/json", "application/jsonl"
NPZ, SAFETENSORS = "application/x-npz", "application/vnd.safetensors"
BY_TYPE: dict[str, CasesWriter] = {writer.media_type: writer for writer in WRITERS}
Tensors = Mapping[str, NDArray[Any]]


def computed(layer: str, **content: Any) -> ComputedCases:
    task = CasesTask(ENTRIES[layer])
    return task.compute(task.plan(content, {}), {})


def written(cases: ComputedCases, media_type: str) -> bytes:
    return b"".join(BY_TYPE[media_type].encode(cases, ResponseContext()).buffers)


def from_npz(content: bytes) -> tuple[Any, Tensors]:
    archive = np.load(io.BytesIO(content))
    names = [name for name in archive.files if name != "manifest"]
    return json.loads(archive["manifest"]), {name: archive[name] for name in names}


def from_safetensors(content: bytes) -> tuple[Any, Tensors]:
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    return json.loads(metadata["manifest"]), safetensors.numpy.load(content)


def from_json(content: bytes) -> tuple[Any, Tensors]:
    document = json.loads(content)
    return document.pop("manifest"), {name: payloads.json_array(tensor) for name, tensor in document.items()}


def from_json_lines(content: bytes) -> tuple[Any, Tensors]:
    """The manifest and tensors as the other formats have them."""
    shared, cases, tensors = {}, [], {}
    for line in content.splitlines():
        case = json.loads(line)
        tolerances = case.pop("tolerances")
        for group in ("operands", "results"):
            for name, tensor in case[group].items():
                tensors[f"{case['name']}/{name}"] = payloads.json_array(tensor)
                case[group][name] = {"shape": tensor["shape"], "dtype": tensor["dtype"]}
        for name, tolerance in tolerances.items():
            case["results"][name]["tolerance"] = tolerance
        shared = {name: case.pop(name) for name in ("format", "convpool", "layer", "kind", "seed", "dtype")}
        cases.append(case)
    return {**shared, "cases": cases}, tensors


READERS = {NPZ: from_npz, SAFETENSORS: from_safetensors, JSON: from_json, JSON_LINES: from_json_lines}


@pytest.mark.parametrize("media_type", READERS)
@pytest.mark.parametrize(
    ("layer", "content"),
    [("conv", {}), ("conv", {"kind": "edges"}), ("pool", {"kind": "edges", "dtype": "float16"}), ("qlinear_conv", {})],
)
def test_every_format_holds_the_same_cases(layer: str, content: dict[str, Any], media_type: str) -> None:
    cases = computed(layer, **content)
    manifest, tensors = READERS[media_type](written(cases, media_type))
    assert manifest == json.loads(cases.manifest())
    assert manifest["format"] == "convpool-cases-1"
    assert manifest["convpool"] == cnn_core.__version__
    described = {
        f"{case['name']}/{name}": (tuple(tensor["shape"]), tensor["dtype"])
        for case in manifest["cases"]
        for name, tensor in (case["operands"] | case["results"]).items()
    }
    assert {name: (array.shape, array.dtype.name) for name, array in tensors.items()} == described
    for name, array in cases.tensors().items():
        np.testing.assert_array_equal(tensors[name], array, strict=True)
    for number, case in enumerate(manifest["cases"]):
        assert case["name"] == f"case_{number:04}"
        assert case["purpose"].endswith(".")
        assert all(set(result) == {"shape", "dtype", "tolerance"} for result in case["results"].values())


def test_unzip_finds_the_manifest_first_and_as_text() -> None:
    content = written(computed("unfold", count=2), NPZ)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        assert members[0].filename == "manifest"
        assert json.loads(archive.read("manifest"))["layer"] == "unfold"
        assert members[1].filename == "case_0000/input.npy"
        assert {(member.date_time, member.create_system) for member in members} == {((1980, 1, 1, 0, 0, 0), 3)}
        assert archive.testzip() is None


def test_a_tensor_that_is_not_finite_is_base64_in_json() -> None:
    document = json.loads(written(computed("conv", kind="edges"), JSON))
    special = [tensor for name, tensor in document.items() if "base64" in tensor]
    assert special
    assert not any(np.isfinite(payloads.json_array(tensor)).all() for tensor in special)
    assert any("data" in tensor for tensor in document.values())


DIGESTS = {
    ("conv", "random", "float32"): (
        "3b5dc1ec643bda0406815f8af17948e3",
        "db50d4cd0314f6a34953c61d61be0826",
        "f562066668faa3a8acb634223953cf77",
        "866a67b4724ad807c78a4c49176d8035",
    ),
    ("conv", "integers", "float16"): (
        "6b4e654eca4f39b089cfdb488da44be1",
        "ee34256a231c9a111f3532c512977e7c",
        "1a87bb905605ad223fe091e682841430",
        "390280c566a5547f5384f77375892d4e",
    ),
    ("conv", "edges", "float64"): (
        "4957e114536af41c4afa5a3728816f2f",
        "73ff263363b3116c96c6e0358c1d7ef4",
        "b99fba7eb19f341e524f1060d50169c6",
        "f89a927afbdecf81732e4970b428fcd7",
    ),
    ("conv_transpose", "random", "float16"): (
        "365d777f27e60ac4cdc22a02de5adedc",
        "e804deff2c78717b01519050647504b6",
        "38542cf468370eb89b4e22abda7255a8",
        "e4840e223b78d8bc901e281f2b5438b2",
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


def digests(layer: str, kind: str, dtype: str) -> tuple[str, ...]:
    cases = computed(layer, kind=kind, dtype=dtype, count=5, seed=2026)
    return tuple(hashlib.sha256(written(cases, media_type)).hexdigest()[:32] for media_type in READERS)


@pytest.mark.parametrize(("layer", "kind", "dtype"), DIGESTS)
def test_the_same_request_gives_the_same_bytes_for_ever(layer: str, kind: str, dtype: str) -> None:
    assert digests(layer, kind, dtype) == DIGESTS[layer, kind, dtype]


def test_another_seed_gives_other_bytes() -> None:
    assert len({written(computed("fold", seed=seed, count=1), NPZ) for seed in range(5)}) == 5


@pytest.mark.parametrize("layer", ENTRIES)
@pytest.mark.parametrize("kind", ["random", "edges"])
def test_an_archive_is_as_large_as_predicted_at_most(layer: str, kind: str) -> None:
    task = CasesTask(ENTRIES[layer])
    plan = task.plan({"kind": kind, "count": 40, "parameters": "any"}, {})
    cases = task.compute(plan, {})
    results = plan.prediction.results
    elements = sum(array.size for array in cases.tensors().values())
    assert sum(tensor.shape[0] for tensor in results[:-1]) >= elements
    for writer in WRITERS:
        size = sum(memoryview(buffer).nbytes for buffer in writer.encode(cases, ResponseContext()).buffers)
        assert size <= plan.prediction.result_bytes + writer.response_memory(results, {})
