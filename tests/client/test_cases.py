"""Archives of golden cases, read with NumPy alone."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnn_core import ConvGradients
from convpool.cases import Cases, CasesError, results_by_name
from tests.client.golden import archive, conv_case
from tests.service.calls import assert_identical

PROJECT = Path(__file__).parents[2]


def test_cases_come_in_their_order_with_all_that_belongs_to_them() -> None:
    written = [conv_case(3), conv_case(4, purpose="one thing", tolerance=0.25, stride=[2])]
    cases = Cases(archive(*written))
    assert (cases.layer, len(cases)) == ("conv", 2)
    assert [case.name for case in cases] == ["case_0000", "case_0001"]
    assert cases[1].purpose == "one thing"
    assert cases[1].parameters == {"stride": [2]}
    assert cases[1].tolerances == dict.fromkeys(("output", "grad_input", "grad_weight", "grad_bias"), 0.25)
    assert [case.name for case in cases[1:]] == ["case_0001"]
    for case, described in zip(cases, written, strict=True):
        assert_identical(case.operands, described["operands"])
        assert_identical(case.results, described["results"])


def test_results_are_named_whichever_way_they_come() -> None:
    gradients = ConvGradients(np.ones(1), None, np.ones(3))
    for returned, names, shapes in (
        (np.ones(2), ["output"], {"output": (2,)}),
        ([1, 2], ["output"], {"output": (2,)}),
        (([1, 2], [[1]]), ["output", "indices"], {"output": (2,), "indices": (1, 1)}),
        (gradients, ["output"], {"grad_input": (1,), "grad_bias": (3,)}),
        ({"a": 1, "b": None}, ["output"], {"a": ()}),
    ):
        assert {name: array.shape for name, array in results_by_name(returned, names).items()} == shapes


def test_they_are_read_from_wherever_they_are(tmp_path: Path) -> None:
    content = archive()
    path = tmp_path / "cases.npz"
    Cases(content).save(path)
    assert path.read_bytes() == content
    with path.open("rb") as file:
        loaded = [Cases.load(source) for source in (path, str(path), content, io.BytesIO(content), file)]
    assert {len(cases) for cases in loaded} == {3}
    assert Cases.load(loaded[0]) is loaded[0]


def rewritten(**replaced: Any) -> bytes:
    """The archive with some members replaced, or left out."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive())) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            if name not in replaced:
                new.writestr(name, old.read(name))
            elif replaced[name] is not None:
                new.writestr(name, replaced[name])
    return file.getvalue()


def pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{}]), allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is an npz"),
        (b"no zip", "is an npz"),
        (archive()[:-40], "is an npz that is not damaged"),
        (rewritten(**{"case_0000/input.npy": pickled()}), "holds numbers alone"),
        (rewritten(manifest=None), "has none: `convpool cases` makes it"),
        (rewritten(manifest=b"{"), "has none"),
        (rewritten(manifest=b"[]"), "has none"),
        (rewritten(**{"case_0001/output.npy": None}), "lacks 'case_0001/output'"),
        (archive(format="convpool-cases-2", convpool="9.1"), "made by convpool 9.1, in another"),
    ],
)
def test_what_is_no_archive_of_cases_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(CasesError, match=message):
        Cases(content)


def test_numpy_alone_is_enough() -> None:
    script = (
        "import sys; sys.modules |= dict.fromkeys(['httpx', 'rich', 'pydantic', 'fastapi'])\n"
        "from convpool.testing import assert_layer_matches\n"
        "from convpool import Conv\n"
        "import convpool.__main__\n"
        "content = sys.stdin.buffer.read()\n"
        "assert_layer_matches(lambda x, w, b, **given: Conv(**given).forward(x, w, b), content)\n"
        "try: assert_layer_matches(lambda x, w, b, **given: -Conv(**given).forward(x, w, b), content)\n"
        "except AssertionError as error: print(error)\n"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script], input=archive(), capture_output=True, check=True, cwd=PROJECT
    ).stdout.decode()
    assert printed.startswith("3 of 3 cases of conv differ\n")
    assert "nothing, as httpx is not installed: pip install 'convpool[client,service]'" in printed


def test_the_fixture_is_as_numpy_and_unzip_read_it() -> None:
    with np.load(io.BytesIO(archive())) as loaded:
        assert json.loads(loaded["manifest"])["format"] == "convpool-cases-1"
        assert loaded["case_0000/input"].shape == (2, 9, 3)
