"""Max unpooling against PyTorch in float64, over random combinations of the parameters and of the indices' numbering.

``draw(seed, index)`` draws a case again. Where an index comes twice in a plane, PyTorch leaves the value open and gives
all of them the gradient: the values are made equal before PyTorch sees them, and its gradient counts for the last.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (as everyone writes it)
from torch import Tensor

from cnn_core import MaxUnpool, OperandError
from tests.peers.cases import Array, draw_batch, draw_memory, draw_padding, draw_per_axis, in_memory, resolve_padding
from tests.peers.drawn import Drawn, compute, generator, grad_output_for
from tests.peers.numbering import SCHEMES, STORAGE_ORDERS, renumbered
from tests.peers.tally import Tally
from tests.peers.torch_side import leaf, pad

BOUND = 1e-10
CASES = 900
MAX_SIZE = {1: 10, 2: 5, 3: 3}

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclasses.dataclass(frozen=True)
class Unpooling:
    """A drawn call, what PyTorch calls its indices and sizes, and whether an index comes twice."""

    drawn: Drawn
    plane: Array  # (N, C, *spatial), in planes of the sizes that are counted
    kernel: list[int]
    stride: list[int]
    padding: Any
    counted: list[int]
    output: list[int]

    @property
    def inferred(self) -> list[int]:
        return inferred_sizes(self.plane.shape[2:], self.kernel, self.stride, self.padding)

    @property
    def sides(self) -> list[tuple[int, int]]:
        return [resolve_padding(self.padding, axis, 1, 1, 1, 1) for axis in range(self.drawn.rank)]

    @property
    def is_native(self) -> bool:
        """Whether PyTorch's own arguments express the case: it has sizes less than a stride from the inferred one."""
        symmetric = self.padding not in ("same", "same_lower") and all(before == after for before, after in self.sides)
        near = all(abs(o - i) < s for o, i, s in zip(self.output, self.inferred, self.stride, strict=True))
        return symmetric and near and self.counted == self.output

    @property
    def last(self) -> Array:
        """For each element the number, in its plane, of the last one with its index."""
        flat = self.plane.reshape(*self.plane.shape[:2], math.prod(self.plane.shape[2:]))
        equal = flat[..., :, None] == flat[..., None, :]
        return flat.shape[-1] - 1 - np.argmax(equal[..., ::-1], axis=-1)


def inferred_sizes(spatial: Sequence[int], kernel: list[int], stride: list[int], padding: Any) -> list[int]:
    """The sizes that follow from the windows; with same padding as many as give this number of windows."""
    if padding in ("same", "same_lower"):
        return [n * s for n, s in zip(spatial, stride, strict=True)]
    sides = [resolve_padding(padding, axis, n, 0, 0, 1) for axis, n in enumerate(spatial)]
    geometry = zip(spatial, kernel, stride, sides, strict=True)
    return [(n - 1) * s - before - after + k for n, k, s, (before, after) in geometry]


def draw(seed: int, index: int) -> Unpooling | None:
    """Draw an unpooling: the same for the same arguments; None where there would be no output."""
    random = generator("max_unpool", seed, index)
    rank = 1 + index % 3
    parameters: dict[str, Any] = {}
    kernel = draw_per_axis(random, parameters, "kernel_size", rank, 1, 4, given=True)
    stride = draw_per_axis(random, parameters, "stride", rank, 1, 4, default=kernel)
    padding = draw_padding(random, rank)
    if padding != 0:
        parameters["padding"] = padding
    spatial = [int(size) for size in random.integers(1, MAX_SIZE[rank] + 1, size=rank)]
    counted = output = inferred_sizes(spatial, kernel, stride, padding)
    how = random.choice(["inferred", "near", "any", "alone", "of onnx"], p=[0.4, 0.2, 0.15, 0.1, 0.15])
    if how == "of onnx":
        parameters |= {"framework": "onnx", "index_scheme": "plane"}
        if "stride" not in parameters:
            stride = [1] * rank
            counted = inferred_sizes(spatial, kernel, stride, padding)
        output = [size + int(random.integers(0, 3)) for size in counted]
        parameters["output_size"] = output
    elif how != "inferred":
        near = how == "near"
        output = [
            max(1, size + int(random.integers(1 - s if near else -2, s if near else 5)))
            for size, s in zip(counted, stride, strict=True)
        ]
        counted = output
        parameters["output_size"] = output
        if how == "alone":
            for name in ("kernel_size", "stride", "padding"):
                parameters.pop(name, None)
    if min(counted) < 1:
        return None
    batch, channels = draw_batch(random), int(random.integers(1, 4))
    elements, places = math.prod(spatial), math.prod(counted)
    plane = np.empty((batch, channels, elements), dtype=np.int64)
    repeats = places < elements or random.random() < 0.3
    for row in plane.reshape(batch * channels, elements):
        row[...] = random.choice(places, size=elements, replace=repeats)
    plane = plane.reshape(batch, channels, *spatial)
    if random.random() < 0.4:
        parameters["data_format"] = str(random.choice(["channels_first", "channels_first", "channels_last"]))
    for name, choices in (("index_scheme", SCHEMES), ("storage_order", STORAGE_ORDERS)):
        if random.random() < 0.7:
            parameters[name] = str(random.choice(choices))
    drawn = Drawn("max_unpool", seed, index, MaxUnpool, parameters, {"input": np.empty((0, 0, *spatial))})
    scheme, order = parameters.get("index_scheme", "plane"), parameters.get("storage_order", "row_major")
    indices = renumbered(plane, (batch, channels, *counted), drawn.channels_first, scheme, order)
    memory = draw_memory(random)
    operands = {
        "input": in_memory(drawn.in_layout(random.standard_normal(plane.shape)), memory),
        "indices": drawn.in_layout(indices).astype(
            str(random.choice(["int64", "int64", "int32", "uint16", "float64"]))
        ),
    }
    return Unpooling(dataclasses.replace(drawn, operands=operands), plane, kernel, stride, padding, counted, output)


def unpool(case: Unpooling, input: Tensor, native: bool) -> Tensor:
    """Unpool (N, C, *spatial) by PyTorch's layer, or by the kernel below it, which takes any size."""
    plane, rank = torch.tensor(case.plane), case.drawn.rank
    if native:
        sizes = None if case.output == case.inferred else case.output
        padding = [before for before, _ in case.sides]
        return getattr(F, f"max_unpool{rank}d")(input, plane, case.kernel, case.stride, padding, sizes)
    if rank == 1:
        whole = torch.ops.aten.max_unpool2d(input.unsqueeze(2), plane.unsqueeze(2), [1, *case.counted]).squeeze(2)
    elif rank == 2:
        whole = torch.ops.aten.max_unpool2d(input, plane, case.counted)
    else:
        whole = torch.ops.aten.max_unpool3d(input, plane, case.counted, [1, 1, 1], [0, 0, 0])
    return pad(whole, [(0, size - counted) for size, counted in zip(case.output, case.counted, strict=True)])


def expected_of(case: Unpooling, grad_output: Array, native: bool) -> dict[str, Array]:
    last, drawn = case.last, case.drawn
    first = [
        array if drawn.channels_first else np.moveaxis(array, -1, 1) for array in (drawn.operands["input"], grad_output)
    ]
    flat = first[0].reshape(last.shape)
    values = leaf(np.take_along_axis(flat, last, -1).reshape(case.plane.shape))
    output = unpool(case, values, native)
    output.backward(torch.tensor(np.ascontiguousarray(first[1])))
    is_last = (last == np.arange(last.shape[-1])).reshape(case.plane.shape)
    results = {"output": output.detach().numpy(), "grad_input": values.grad.numpy() * is_last}
    return {name: drawn.in_layout(array) for name, array in results.items()}


def test_float64(seed: int, finish: Callable[..., None]) -> None:
    tally = Tally("max_unpool, float64")
    for index in range(CASES):
        case = draw(seed, index)
        if case is None:
            tally.outside["no element of output"] += 1
            continue
        repeated = bool((case.last != np.arange(case.last.shape[-1])).any())

        def comparison(case: Unpooling = case) -> None:
            grad_output = grad_output_for(case.drawn)
            actual = compute(case.drawn, grad_output)
            for how in {case.is_native, False}:
                for name, expected in expected_of(case, grad_output, how).items():
                    tally.close(name, actual[name], expected, BOUND)

        how = "native" if case.is_native else "composed"
        tally.check(case.drawn, f"{how} with repeats" if repeated else how, comparison)
    finish(
        tally,
        native=CASES // 8,
        composed=CASES // 4,
        native_with_repeats=CASES // 30,
        composed_with_repeats=CASES // 15,
    )
    assert CASES - tally.compared <= CASES // 6


def test_indices_outside(seed: int, finish: Callable[..., None]) -> None:
    """An index that is one too large, or negative, is an error in every numbering; PyTorch calls it one, too."""
    tally = Tally("max_unpool, refused")
    for index in range(CASES):
        case = draw(seed, index)
        if case is None or case.plane.size == 0:
            continue
        if tally.compared == CASES // 6:
            break

        def comparison(case: Unpooling = case) -> None:
            drawn, random = case.drawn, case.drawn.generator(1)
            counts = {"plane": 1, "image": case.plane.shape[1], "tensor": math.prod(case.plane.shape[:2])}
            count = math.prod(case.counted) * counts[drawn.parameters.get("index_scheme", "plane")]
            wrong = drawn.operands["indices"].astype(np.int64)
            wrong.flat[random.integers(wrong.size)] = random.choice([-1, count])
            with pytest.raises(OperandError, match="indices"):
                MaxUnpool(**drawn.parameters).forward(drawn.operands["input"], wrong)
            plane = case.plane.copy()
            plane.flat[random.integers(plane.size)] = math.prod(case.counted)
            with pytest.raises(RuntimeError):
                unpool(dataclasses.replace(case, plane=plane), torch.ones(case.plane.shape), False)

        tally.check(case.drawn, "outside", comparison)
    finish(tally, outside=CASES // 6)
