"""One random call of an op, with all that replays it, and what draws and computes such calls."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.peers.cases import Array


@dataclasses.dataclass(frozen=True)
class Drawn:
    """The parameters and operands of one call; ``draw`` of its module draws it again from the seed and the index."""

    name: str
    seed: int
    index: int
    op: type
    parameters: dict[str, Any]
    operands: dict[str, Array] = dataclasses.field(repr=False)

    def __str__(self) -> str:
        shapes = {name: operand.shape for name, operand in self.operands.items()}
        call = f"{self.op.__name__}(**{self.parameters}) of {shapes}"
        return f"{self.name} {self.index} of seed {self.seed}: {call}"

    @property
    def channels_first(self) -> bool:
        by_default = "channels_first" if self.parameters.get("framework") in {"torch", "onnx"} else "channels_last"
        return self.parameters.get("data_format", by_default) == "channels_first"

    @property
    def rank(self) -> int:
        return self.operands["input"].ndim - 2

    @property
    def spatial(self) -> tuple[int, ...]:
        shape = self.operands["input"].shape
        return shape[2:] if self.channels_first else shape[1:-1]

    def generator(self, *more: int) -> np.random.Generator:
        return generator(self.name, self.seed, self.index, 1, *more)

    def in_layout(self, array: Array) -> Array:
        """Bring what has its channels first to the case's layout."""
        return array if self.channels_first else np.moveaxis(array, 1, -1)


def generator(name: str, seed: int, index: int, *more: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(name.encode()), index, *more])


def grad_output_for(drawn: Drawn) -> Array:
    """Draw a gradient of the shape that the op predicts for its output."""
    shape = drawn.op(**drawn.parameters).output_shape(*(operand.shape for operand in drawn.operands.values()))
    return drawn.generator().standard_normal(shape)


def compute(drawn: Drawn, grad_output: Array, **more: Any) -> dict[str, Array]:
    """Return output, indices if there are any, and all gradients by cnn_core; operands have to stay as they were."""
    op = drawn.op(**drawn.parameters, **more)
    operands = list(drawn.operands.values())
    before = [operand.copy() for operand in operands]
    forward, backward = op.forward(*operands), op.backward(grad_output, *operands)
    results: dict[str, Array] = {"output": forward}
    if isinstance(forward, tuple):
        results = {"output": forward.output, "indices": forward.indices}
    results |= gradients(backward)
    assert op.output_shape(*(operand.shape for operand in operands)) == results["output"].shape
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(operands, before, strict=True)), "operand modified"
    dtypes = {name: result.dtype.name for name, result in results.items() if name != "indices"}
    assert set(dtypes.values()) == {"float64"}, dtypes
    return results


def gradients(backward: Any) -> Mapping[str, Array]:
    """Return the result of a backward by name."""
    if isinstance(backward, np.ndarray):
        return {"grad_input": backward}
    return {name: getattr(backward, name) for name in ("grad_input", "grad_weight", "grad_bias")}
