"""Links into the playground: opened by the page's own modules in Node, and computed by cnn_core."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.declarations import BY_NAME
from tests.declarations.declaration import Case
from tests.oracle.windows import AnyArray
from tests.pages import PROJECT

__all__ = ["PLAYGROUND", "array", "computed", "made_by_the_page", "opened"]

PLAYGROUND = PROJECT / "service" / "playground"

# Reads fragments, and writes for each the state and what the page's modules make of it; a problem ends it.
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
  const picture = await computePicture(layer, state, (path, body) => service.call(path, body));
  all.push({ state, results: picture.results, gradOutput: picture.gradOutput });
}
process.stdout.write(JSON.stringify(all));
"""


def opened(fragments: Sequence[str], server_url: str) -> list[dict[str, Any]]:
    """Return the state that each fragment stands for, and the results that the page shows of it."""
    pictures: list[dict[str, Any]] = made_by_the_page(PROGRAM, list(fragments), server_url)
    return pictures


def made_by_the_page(program: str, given: Any, server_url: str) -> Any:
    """Return what a program in Node makes of JSON with the page's modules, whose folder and server it gets."""
    command = ["node", "--input-type=module", "--eval", program, str(PLAYGROUND), server_url]
    ended = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def array(tensor: dict[str, Any]) -> AnyArray:
    return np.array(tensor["data"], tensor["dtype"]).reshape(tensor["shape"])


def computed(picture: dict[str, Any]) -> dict[str, AnyArray]:
    """Return what cnn_core makes of a state: the output and, where the state shows one, the gradient."""
    state = picture["state"]
    parameters = dict(state["parameters"])
    declaration = BY_NAME[parameters.pop("mode", state["op"])]
    operands = {name: array(tensor) for name, tensor in state["tensors"].items() if name != "grad_output"}
    case = Case(parameters, operands, array(picture["gradOutput"]))
    results = declaration.computed(case)
    if state["view"].startswith("grad_"):
        results[state["view"]] = declaration.computed_gradients(case)[state["view"]]
    return results
