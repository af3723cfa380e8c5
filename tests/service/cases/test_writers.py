"""The archives: what is in them, that common readers read them, and that their bytes never change."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

import cnn_core
from service.cases.task import CasesTask
from service.cases.writers import WRITERS
from service.codecs import ResponseContext
from tests.service import payloads
from tests.service.cases.digests import BY_TYPE, DIGESTS, JSON, JSON_LINES, NPZ, SAFETENSORS, computed, digests, written
from tests.service.cases.oracles import ENTRIES

PROJECT = Path(__file__).parents[3]
Tensors = Mapping[str, NDArray[Any]]


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


@pytest.mark.parametrize(("layer", "kind", "dtype"), DIGESTS)
def test_the_same_request_gives_the_same_bytes_for_ever(layer: str, kind: str, dtype: str) -> None:
    """``python -m tests.service.cases.digests`` compares them with another Python and other packages."""
    assert digests(layer, kind, dtype) == DIGESTS[layer, kind, dtype]


def test_the_bytes_do_not_depend_on_how_blas_sums() -> None:
    """Another processor's kernels of OpenBLAS sum in another order; on other systems this only runs it again."""
    environment = os.environ | {"OPENBLAS_CORETYPE": "Prescott"}
    command = [sys.executable, "-m", "tests.service.cases.digests"]
    ran = subprocess.run(command, env=environment, cwd=PROJECT, check=False, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_another_seed_gives_other_bytes() -> None:
    assert len({written(computed("fold", seed=seed, count=1), NPZ) for seed in range(5)}) == 5


@pytest.mark.parametrize("media_type", READERS)
def test_an_archive_is_sent_in_few_pieces(media_type: str) -> None:
    pieces = BY_TYPE[media_type].encode(computed("conv", count=60), ResponseContext()).buffers
    sizes = [memoryview(piece).nbytes for piece in pieces]
    assert min(sizes[:-1], default=2**18) >= 2**18
    assert len(sizes) <= 1 + sum(sizes) // 2**18


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
