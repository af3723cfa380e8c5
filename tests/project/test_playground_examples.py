"""The playground's examples: each can be read, made anew by its script, and computed; the numbers are cnn_core's."""

from __future__ import annotations

import importlib.util
import json
import shutil
from typing import Any

import numpy as np
import pytest

from tests.pages import PROJECT
from tests.playground import PLAYGROUND, array, computed, opened

EXAMPLES: list[dict[str, str]] = json.loads((PLAYGROUND / "examples.json").read_text("utf-8"))

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


@pytest.fixture(scope="module")
def pictures(server_url: str) -> list[dict[str, Any]]:
    return opened([example["fragment"] for example in EXAMPLES], server_url)


def test_every_example_is_computed_and_shows_the_numbers_of_the_core(pictures: list[dict[str, Any]]) -> None:
    for picture in pictures:
        expected = computed(picture)
        assert set(picture["results"]) == set(expected)
        for name, tensor in picture["results"].items():
            np.testing.assert_allclose(array(tensor), expected[name], rtol=1e-12, atol=1e-12)


def test_the_script_makes_them_anew(pictures: list[dict[str, Any]]) -> None:
    """The states are compared: another version of Node may compress their data in another way."""
    path = PROJECT / "docs" / "make_examples.py"
    spec = importlib.util.spec_from_file_location("make_examples", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert [(example.title, example.note) for example in script.EXAMPLES] == [
        (example["title"], example["note"]) for example in EXAMPLES
    ]
    for example, picture in zip(script.EXAMPLES, pictures, strict=True):
        state = json.loads(json.dumps(example.state()))
        assert {name: picture["state"][name] for name in state} == state


def test_they_are_as_many_as_a_lecture_has_time_for_and_small_enough_to_follow(pictures: list[dict[str, Any]]) -> None:
    assert 15 <= len(EXAMPLES) <= 20
    assert len({example["title"] for example in EXAMPLES}) == len(EXAMPLES)
    assert all(len(example["note"]) <= 240 for example in EXAMPLES)
    assert {picture["state"]["op"] for picture in pictures} >= {"conv", "pool", "unpool", "conv_transpose"}
    assert {picture["state"]["view"] for picture in pictures} >= {"forward", "grad_input", "grad_weight", "compare"}
    for picture in pictures:
        assert all(len(tensor["data"]) <= 128 for tensor in picture["state"]["tensors"].values())
        assert picture["state"]["hide"] == []
