"""Code that the playground offers for copying: drawn layers, the code for them, and the numbers that it must print."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.declarations.declaration import Case, Declaration
from tests.oracle.windows import AnyArray
from tests.playground import made_by_the_page

# Reads states whose tensors are base64, lets the page's modules make their pictures, and writes the snippets for each.
PROGRAM = """
import { readFileSync } from "node:fs";
const [folder, url] = process.argv.slice(1);
const { computePicture, layersOf } = await import(`${folder}/picture.js`);
const { decodeTensor, Service } = await import(`${folder}/service.js`);
const { snippets } = await import(`${folder}/snippets.js`);
const service = new Service(url);
const layers = layersOf(await service.get("/ops"));
const all = [];
for (const { base, state, parameters } of JSON.parse(readFileSync(0, "utf-8"))) {
  for (const [name, tensor] of Object.entries(state.tensors)) state.tensors[name] = decodeTensor(tensor);
  const layer = layers.find(({ name }) => name === state.op);
  const picture = await computePicture(layer, state, (path, body) => service.call(path, body));
  if (parameters) picture.state = { ...state, parameters };
  all.push(Object.fromEntries(snippets({ base, picture }).map(({ id, code }) => [id, code])));
}
process.stdout.write(JSON.stringify(all));
"""


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer and what the page shows of it: its output, or one gradient; ``results`` are cnn_core's."""

    declaration: Declaration
    case: Case
    view: str
    results: dict[str, AnyArray]

    def __str__(self) -> str:
        shapes = {name: (array.dtype.name, array.shape) for name, array in self.case.operands.items()}
        return f"{self.view} of {self.declaration.name} with {self.parameters} of {shapes}"

    @property
    def parameters(self) -> dict[str, Any]:
        own = {"mode": self.declaration.mode} if self.declaration.mode else {}
        return {**own, **self.case.parameters}

    @property
    def expected(self) -> dict[str, AnyArray]:
        """What the code prints."""
        if self.view == "forward":
            return {name: array for name, array in self.results.items() if not name.startswith("grad_")}
        return {self.view: self.results[self.view]}

    def state(self) -> dict[str, Any]:
        """Return the state of the page that shows it, but for what no picture depends on."""
        tensors = dict(self.case.operands)
        if self.view != "forward" and self.case.grad_output is not None:
            tensors["grad_output"] = self.case.grad_output
        encoded_tensors = {name: encoded(array) for name, array in tensors.items()}
        op = self.declaration.layer
        return {"op": op, "view": self.view, "parameters": self.parameters, "tensors": encoded_tensors, "item": 0}


def encoded(array: AnyArray) -> dict[str, Any]:
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"))
    return {"dtype": array.dtype.name, "shape": array.shape, "base64": base64.b64encode(little.tobytes()).decode()}


def draw(
    declaration: Declaration, count: int, number: int, change: Callable[[Case], Case], *, examples: bool = True
) -> list[Layer]:
    """Draw cases, the same for the same number, after the examples; of each the output and every gradient is a layer.

    Parameters
    ----------
    change : callable
        Takes a case, and returns the one that is meant.
    """
    cases: list[Case] = []

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(declaration.cases)
    def collect(case: Case) -> None:
        cases.append(case)

    collect()
    layers = []
    first = [with_gradient(declaration, case) for case in declaration.examples.values()] if examples else []
    for case in map(change, first + cases):
        if any(array.size == 0 for array in case.operands.values()):
            continue
        forward = declaration.computed(case)
        layers.append(Layer(declaration, case, "forward", forward))
        if declaration.op.differentiable:
            gradients = declaration.computed_gradients(case)
            layers.extend(Layer(declaration, case, name, {**forward, **gradients}) for name in gradients)
    return layers


def with_gradient(declaration: Declaration, case: Case) -> Case:
    """The case with a gradient of its output, where it has none."""
    return dataclasses.replace(case, grad_output=np.ones(declaration.output_shape(case)))


def code_for(
    layers: Sequence[Layer],
    server_url: str,
    bases: Sequence[str] | None = None,
    parameters: Sequence[dict[str, Any]] | None = None,
) -> list[dict[str, str]]:
    """Return the snippets for each layer by their ids, as the page makes them from the answers of a server.

    Parameters
    ----------
    bases : sequence of str, optional
        What the page takes for the server's URL, for each layer, if not this one.
    parameters : sequence of dict, optional
        What the page takes for the parameters of each layer, if not those that the server has accepted.
    """
    given = [
        {"base": base, "state": layer.state(), "parameters": changed}
        for layer, base, changed in zip(layers, bases or repeat(server_url), parameters or repeat(None), strict=False)
    ]
    codes: list[dict[str, str]] = made_by_the_page(PROGRAM, given, server_url)
    return codes


def integers(case: Case) -> Case:
    """The same case of small integers, none of them zero: sums of products are exact, whatever their order."""
    operands = {
        name: array if name.endswith("_scale") or name == "indices" else _integers(array)
        for name, array in case.operands.items()
    }
    return Case(case.parameters, operands, None if case.grad_output is None else _integers(case.grad_output))


def _integers(array: AnyArray) -> AnyArray:
    if array.dtype.kind != "f":
        return array // 2 if array.dtype == np.int8 else array  # of 7 bits
    numbers = np.random.default_rng(array.size).integers(1, 6, array.shape)
    return np.where(numbers % 2, numbers, -numbers).astype(np.float64)
