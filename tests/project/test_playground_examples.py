"""The playground's examples: each can be read, made anew by its script, and computed; the numbers are cnn_core's."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from typing import Any

import numpy as np
import pytest

from tests.declarations import BY_NAME
from tests.declarations.declaration import Case
from tests.oracle.windows import AnyArray
from tests.pages import PROJECT

PLAYGROUND = PROJECT / "service" / "playground"
EXAMPLES: list[dict[str, str]] = json.loads((PLAYGROUND / "examples.json").read_text("utf-8"))

# Reads fragments, and writes for each the state and what the page's modules make of it: results, or a problem.
PROGRAM = """
import { readFileSync } from "node:fs";
const [folder, url] = process.argv.slice(1);
const { computePicture, layersOf } = await import(`${folder}/picture.js`);
const { Service } = await import(`${folder}/service.js`);
const { decodeFragment, DEFAULTS } = await import(`${folder}/state.js`);
const service = new Service(url);
const layers = layersOf(await service.get("/ops"));
const all = [];
for (const fragment of JSON.parse(readFileSync(0, "utf-8"))) {
  const state = { ...DEFAULTS, ...(await decodeFragment(fragment)) };
  const layer = layers.find(({ name }) => name === state.op);
  const picture = await computePicture(layer, layers, state, (path, body) => service.call(path, body));
  all.push({ state, results: picture.results, gradOutput: picture.gradOutput });
}
process.stdout.write(JSON.stringify(all));
"""

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


@pytest.fixture(scope="module")
def opened(server_url: str) -> list[dict[str, Any]]:
    command = ["node", "--input-type=module", "--eval", PROGRAM, str(PLAYGROUND), server_url]
    fragments = json.dumps([example["fragment"] for example in EXAMPLES])
    ended = subprocess.run(command, input=fragments, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    pictures: list[dict[str, Any]] = json.loads(ended.stdout)
    return pictures


def array(tensor: dict[str, Any]) -> AnyArray:
    return np.array(tensor["data"], tensor["dtype"]).reshape(tensor["shape"])


def computed(picture: dict[str, Any]) -> dict[str, AnyArray]:
    """What cnn_core makes of a state: the output and, where the state shows one, the gradient."""
    state = picture["state"]
    parameters = dict(state["parameters"])
    declaration = BY_NAME[parameters.pop("mode", state["op"])]
    operands = {name: array(tensor) for name, tensor in state["tensors"].items() if name != "grad_output"}
    case = Case(parameters, operands, array(picture["gradOutput"]))
    results = declaration.computed(case)
    if state["view"].startswith("grad_"):
        results[state["view"]] = declaration.computed_gradients(case)[state["view"]]
    return results


def test_every_example_is_computed_and_shows_the_numbers_of_the_core(opened: list[dict[str, Any]]) -> None:
    for picture in opened:
        expected = computed(picture)
        assert set(picture["results"]) == set(expected)
        for name, tensor in picture["results"].items():
            np.testing.assert_allclose(array(tensor), expected[name], rtol=1e-12, atol=1e-12)


def test_the_script_makes_them_anew(opened: list[dict[str, Any]]) -> None:
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
    for example, picture in zip(script.EXAMPLES, opened, strict=True):
        state = json.loads(json.dumps(example.state()))
        assert {name: picture["state"][name] for name in state} == state


def test_they_are_as_many_as_a_lecture_has_time_for_and_small_enough_to_follow(opened: list[dict[str, Any]]) -> None:
    assert 15 <= len(EXAMPLES) <= 20
    assert len({example["title"] for example in EXAMPLES}) == len(EXAMPLES)
    assert all(len(example["note"]) <= 240 for example in EXAMPLES)
    assert {picture["state"]["op"] for picture in opened} >= {"conv", "pool", "unpool", "conv_transpose"}
    assert {picture["state"]["view"] for picture in opened} >= {"forward", "grad_input", "grad_weight", "compare"}
    for picture in opened:
        assert all(len(tensor["data"]) <= 128 for tensor in picture["state"]["tensors"].values())
        assert picture["state"]["hide"] == []
