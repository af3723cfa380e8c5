"""Layers as large as the service admits them, of every operation: what takes longest between two looks at a token."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnn_core import ConvpoolError
from service.operations.budget import check_budget
from service.operations.catalogue import OPERATIONS
from service.operations.operation import Operation
from service.problems import InvalidRequest, TooLarge
from service.settings import MEBIBYTE, Settings

__all__ = ["Layer", "drawn_layers", "is_admitted", "layers"]

MAX_OPERAND_BYTES = Settings().max_body_bytes
CONVOLUTIONS = ("conv", "conv_transpose")
FIRST = {"data_format": "channels_first"}
FLOATS = ("float32", "float64", "float16")


@dataclass(frozen=True)
class Layer:
    """A call of an operation.

    Parameters
    ----------
    name : str
        Of the catalogue entry.
    parameters : dict
    shapes : dict
        Of the operands of forward.
    dtype : str
        Of the operands that are large.
    dtypes : dict
        Of others.
    """

    name: str
    parameters: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    dtype: str = "float32"
    dtypes: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        shapes = " ".join("x".join(map(str, shape)) for shape in self.shapes.values() if math.prod(shape) > 1)
        values = " ".join(f"{name}={value}".replace(" ", "") for name, value in self.parameters.items())
        return f"{self.name} {shapes} {self.dtype} {values}"

    def calls(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Yield each direction that the service admits, by name, and a function that computes it."""
        operands: dict[str, Any] = {}
        for operation in OPERATIONS:
            if operation.entry.name != self.name or not is_admitted(operation, self):
                continue
            op = operation.parse_parameters(self.parameters).op
            operands = operands or {name: self._tensor(name, shape) for name, shape in self.shapes.items()}
            if self.name == "unpool":
                count = math.prod(op.resolve(*self.shapes.values()).windows.sizes)
                operands["indices"] %= count
            if operation.direction == "forward":
                yield "forward", lambda op=op, operands=operands: op.forward(**operands)
                continue
            gradient = _numbers(op.output_shape(*self.shapes.values()), self.dtype)
            for wrt in op.differentiable if len(op.differentiable) > 1 else ("",):
                options = {"wrt": (wrt,)} if wrt else {}
                yield (
                    f"backward {wrt}".strip(),
                    lambda op=op, gradient=gradient, operands=operands, options=options: op.backward(
                        gradient, **operands, **options
                    ),
                )

    def _tensor(self, name: str, shape: tuple[int, ...]) -> Any:
        dtype = self.dtypes.get(name, self.dtype)
        if name.endswith("_scale"):
            return np.full(shape, 0.5, dtype)
        return np.zeros(shape, dtype) if name.endswith("_zero_point") else _numbers(shape, dtype)


def _numbers(shape: tuple[int, ...], dtype: str) -> Any:
    """Few numbers over and over: as large arrays are soon made, and maxima tie."""
    random = np.random.default_rng(0)
    few = random.integers(0, 100, 9973) if np.dtype(dtype).kind in "iu" else random.standard_normal(9973)
    return np.resize(few.astype(dtype), shape)


def is_admitted(operation: Operation, layer: Layer) -> bool:
    """Return whether the service computes a layer: its operands fit a body, and its costs the limits."""
    bytes_of = [
        math.prod(shape) * np.dtype(layer.dtypes.get(name, layer.dtype)).itemsize
        for name, shape in layer.shapes.items()
    ]
    try:
        call = operation.parse_parameters(layer.parameters)
        shapes = dict(layer.shapes)
        if operation.direction == "backward":
            shapes["grad_output"] = call.op.output_shape(*layer.shapes.values())
            bytes_of.append(math.prod(shapes["grad_output"]) * np.dtype(layer.dtype).itemsize)
        if sum(bytes_of) > MAX_OPERAND_BYTES:
            return False
        empty = {
            name: np.broadcast_to(np.zeros((), layer.dtypes.get(name, layer.dtype)), shape)
            for name, shape in shapes.items()
        }
        check_budget(operation.predict(call, empty), 0, Settings())
    except (ConvpoolError, InvalidRequest, TooLarge):
        return False
    return True


def _conv(parameters: dict[str, Any], image: tuple[int, ...], weight: tuple[int, ...], dtype: str) -> Layer:
    return Layer("conv", parameters, {"input": image, "weight": weight}, dtype)


def _pool(mode: str, parameters: dict[str, Any], image: tuple[int, ...], dtype: str = "float32") -> Layer:
    return Layer("pool", {"mode": mode, **parameters}, {"input": image}, dtype)


def layers() -> Iterator[Layer]:
    """Yield the layers; some are admitted in one direction only."""
    yield from _convolutions()
    yield from _by_other_algorithms()
    yield from _transposed()
    yield from _pools()
    yield from _of_patches()
    yield from _quantized()


def _convolutions() -> Iterator[Layer]:
    for dtype in (*FLOATS, "int64", "int8"):
        mega = 15 * MEBIBYTE // np.dtype(dtype).itemsize  # a quarter of a body
        side = math.isqrt(mega)
        yield _conv({}, (1, side, side, 1), (1, 1, 1, 1), dtype)
        yield _conv({}, (1, side, side, 1), (3, 3, 1, 1), dtype)
        yield _conv(FIRST, (1, 1, side, side), (1, 1, 3, 3), dtype)
        yield _conv({}, (1, side // 4, side // 4, 16), (1, 1, 16, 16), dtype)
        yield _conv(FIRST, (1, 16, side // 4, side // 4), (16, 16, 3, 3), dtype)
        yield _conv({}, (mega // 2048, 1, 1, 2048), (1, 1, 2048, mega // 2048), dtype)
        yield _conv(FIRST, (mega // 2048, 2048, 1, 1), (mega // 2048, 2048, 1, 1), dtype)
        yield _conv({}, (1, 1, 1, 2048), (1, 1, 2048, 3 * mega // 2048), dtype)
        yield _conv(FIRST, (1, 512, 3, 3), (3 * mega // 512 // 9, 512, 3, 3), dtype)
        yield _conv({**FIRST, "padding": 1}, (1, 512, 3, 3), (2 * mega // 512 // 9, 512, 3, 3), dtype)
        yield _conv({}, (1, 2 * mega, 1), (mega, 1, 1), dtype)
        yield _conv({}, (1, mega + 2000, 1), (mega, 1, 1), dtype)
        yield _conv({"groups": 512}, (1, side // 32, side // 32, 1024), (3, 3, 2, 1024), dtype)
        yield _conv({"groups": 1024}, (1, side // 32, side // 32, 1024), (3, 3, 1, 1024), dtype)
        yield _conv({"groups": mega // 4, **FIRST}, (1, mega // 4, 2, 2), (mega // 4, 1, 2, 2), dtype)
        yield _conv({"groups": mega // 4}, (1, 2, 2, mega // 4), (2, 2, 1, mega // 4), dtype)
        yield _conv({"groups": mega // 8}, (1, 2, 2, mega // 4), (2, 2, 2, mega // 4), dtype)
        yield _conv({"stride": 2}, (1, 2 * (side // 16), 2 * (side // 16), 128), (3, 3, 128, 64), dtype)
        yield _conv({"padding": 2500, "stride": 64}, (1, 3, 3, 1), (3, 3, 1, 16), dtype)
        yield _conv({"padding": side // 2, "padding_mode": "circular"}, (1, side, side, 1), (1, 1, 1, 1), dtype)
        yield _conv({"padding": 2500, "padding_mode": "replicate", "stride": 50}, (1, 3, 3, 1), (3, 3, 1, 1), dtype)


def _by_other_algorithms() -> Iterator[Layer]:
    for algorithm in ("winograd", "fft", "fastest"):
        for dtype in FLOATS:
            mega = 15 * MEBIBYTE // np.dtype(dtype).itemsize
            side = math.isqrt(mega)
            more = {"algorithm": algorithm}
            yield _conv({**more, "padding": 1}, (1, side // 8, side // 8, 64), (3, 3, 64, 64), dtype)
            yield _conv({**more, "padding": 1}, (1, 4, 4, 1024), (3, 3, 1024, mega // 9 // 1024), dtype)
            yield _conv({**more, **FIRST, "padding": 1}, (1, 1024, 4, 4), (mega // 9 // 1024, 1024, 3, 3), dtype)
            yield _conv({**more, "padding": 1}, (1, side, side, 1), (3, 3, 1, 2), dtype)
            yield _conv(more, (1, 33, side // 8, side // 8, 2), (31, 31, 31, 2, 2), dtype)
            yield _conv({**more, "padding": 1}, (1, 30, side // 16, side // 16, 8), (3, 3, 3, 8, 8), dtype)
            yield _conv({**more, "padding": 30}, (1, side // 2, side // 2, 4), (61, 61, 4, 4), dtype)
            yield _conv({**more, "padding": 500}, (1, 1000, 1000, 1), (1000, 1000, 1, 1), dtype)
            yield _conv(more, (1, 2**20, 1), (2**19, 1, 1), dtype)
            yield _conv(more, (64, 2**16, 1), (2**15, 1, 1), dtype)
            yield _conv({**more, "groups": 8}, (1, side // 4, side // 4, 16), (31, 31, 2, 16), dtype)


def _transposed() -> Iterator[Layer]:
    for dtype in ("float32", "float64", "float16", "int8"):
        for algorithm in ("auto", "fastest", "fft"):
            mega = 15 * MEBIBYTE // np.dtype(dtype).itemsize
            side = math.isqrt(mega)
            for parameters, image, weight in (
                ({"stride": 2}, (1, side // 16, side // 16, 64), (3, 3, 64, 64)),
                ({"stride": 2, "groups": 64}, (1, side // 16, side // 16, 64), (3, 3, 1, 64)),
                ({"stride": 1}, (1, side // 8, side // 8, 64), (3, 3, 64, 64)),
                ({"stride": 3}, (1, side // 4, side // 4, 2), (5, 5, 1, 2)),
                ({"stride": 7}, (1, side // 8, side // 8, 2), (11, 11, 3, 2)),
                ({}, (1, 1000, 1), (mega, 1, 1)),
                ({}, (1, side, side, 1), (3, 3, 1, 1)),
                (FIRST, (1, 16, side // 8, side // 8), (16, 16, 3, 3)),
                ({**FIRST, "stride": 2}, (1, 512, 2, 2), (512, mega // 512 // 9, 3, 3)),
                ({}, (1, 1, 1, 2048), (1, 1, mega // 2048, 2048)),
            ):
                yield Layer(
                    "conv_transpose", {**parameters, "algorithm": algorithm}, {"input": image, "weight": weight}, dtype
                )


def _pools() -> Iterator[Layer]:
    for dtype in (*FLOATS, "int64", "uint8"):
        mega = 30 * MEBIBYTE // np.dtype(dtype).itemsize
        side = math.isqrt(mega)
        for mode in ("max", "avg", "lp"):
            for parameters in _poolings(mode) if dtype == "float32" else ():
                for image in (
                    (1, mega, 1),
                    (mega // 4, 4, 1),
                    (1, side, side, 1),
                    (1, side // 8, side // 8, 64),
                    (1, 4, 4, mega // 16),
                    (1, side // 3, 3, 3, side // 3),
                ):
                    yield _pool(mode, parameters, image, dtype)
                    if image[1] > 4:
                        yield _pool(mode, {**parameters, **FIRST}, (image[0], image[-1], *image[1:-1]), dtype)
            yield _pool(mode, {"kernel_size": mega, **FIRST}, (1, 1, mega), dtype)
            yield _pool(mode, {"kernel_size": mega // 2, "stride": mega // 2}, (1, mega, 1), dtype)
            yield _pool(mode, {"kernel_size": 4000, "stride": 1}, (1, 8000, mega // 32_000), dtype)
            yield _pool(mode, {"kernel_size": side, **FIRST}, (1, 1, side, side), dtype)
            yield _pool(mode, {"output_size": 1}, (1, side, side, 1), dtype)
            yield _pool(mode, {"output_size": side - 1}, (1, side, side, 1), dtype)
            yield _pool(mode, {"output_size": mega // 2}, (1, 10, 1), dtype)
            yield _pool(mode, {"output_size": mega // 2 - 7}, (1, mega // 2, 1), dtype)
            yield _pool(mode, {"output_size": 3000}, (1, mega // 4, 2), dtype)
            yield _pool(mode, {"output_size": 300}, (1, 301, mega // 601), dtype)
            yield _pool(mode, {"kernel_size": [1, 3], "stride": 1, "padding": [0, 1]}, (1, side, side, 1), dtype)


def _of_patches() -> Iterator[Layer]:
    for dtype in (*FLOATS, "int64", "uint8"):
        mega = 15 * MEBIBYTE // np.dtype(dtype).itemsize
        side = math.isqrt(mega)
        for more in ({}, FIRST):
            image = (1, 1, side // 2, side // 2) if more else (1, side // 2, side // 2, 1)
            yield Layer("unfold", {"kernel_size": 3, "padding": 1, **more}, {"input": image}, dtype)
            yield Layer("unfold", {"kernel_size": 1, **more}, {"input": (1, side, side, 2)}, dtype)
            yield Layer("unfold", {"kernel_size": 2000, **more}, {"input": (1, 4000, 2)[:: -1 if more else 1]}, dtype)
            yield Layer(
                "unfold", {"kernel_size": 1, "padding": 3000, "stride": 6000, **more}, {"input": (1, 2, 2, 1)}, dtype
            )
            columns, rows = 9 * (mega // 16 // 9), 15**2
            shape = (columns // 9, 9, rows) if more else (columns // 9, rows, 9)
            yield Layer("fold", {"kernel_size": 3, "output_size": [17, 17], **more}, {"input": shape}, dtype)
            shape = (1, 9, (side - 2) ** 2 // 4) if more else (1, (side // 2 - 1) ** 2, 9)
            yield Layer("fold", {"kernel_size": 3, "output_size": [side // 2 + 1] * 2}, {"input": shape}, dtype)
            yield Layer("fold", {"kernel_size": 2000, "output_size": [4000]}, {"input": (1, 2001, 4000)}, dtype)
        for image in ((1, side, side, 1), (1, 4, 4, mega // 16), (mega, 1, 1)):
            for more in ({}, {"index_scheme": "tensor", "storage_order": "column_major"}):
                yield Layer(
                    "unpool",
                    {"kernel_size": 2, **more},
                    {"input": image, "indices": image},
                    dtype,
                    {"indices": "int32"},
                )


def _quantized() -> Iterator[Layer]:
    for dtype in ("int8", "uint8"):
        for more in ({}, FIRST):
            for padding in (0, 1):
                for kernel, channels, features in ((1, 1, 1), (3, 4, 8), (3, 64, 64), (1, 512, 512)):
                    most = min(
                        MEBIBYTE * 30 // max(channels, 2 * features), 10**10 // (kernel**2 * channels * features)
                    )
                    side = math.isqrt(most)
                    image, weight = (1, side, side, channels), (kernel, kernel, channels, features)
                    if more:
                        image, weight = (1, channels, side, side), (features, channels, kernel, kernel)
                    parameters = {**more, "padding": padding}
                    zero: dict[str, tuple[int, ...]] = {"input_zero_point": (), "weight_zero_point": ()}
                    yield Layer("conv_integer", parameters, {"input": image, "weight": weight, **zero}, dtype)
                    scales: dict[str, tuple[int, ...]] = {f"{each}_scale": () for each in ("input", "weight", "output")}
                    yield Layer(
                        "qlinear_conv",
                        parameters,
                        {"input": image, "weight": weight, **zero, **scales, "output_zero_point": ()},
                        dtype,
                        dict.fromkeys(scales, "float32"),
                    )
            yield Layer("conv_integer", {}, {"input": (1, 1, 1, 4096), "weight": (1, 1, 4096, 4096)}, dtype)


def _poolings(mode: str) -> Iterator[dict[str, Any]]:
    yield {"kernel_size": 1}
    yield {"kernel_size": 3, "stride": 1}
    yield {"kernel_size": 2}
    if mode == "max":
        yield {"kernel_size": 2, "return_indices": True}
        yield {"kernel_size": 3, "stride": 1, "ties": "split"}
        yield {
            "kernel_size": 3,
            "stride": 1,
            "return_indices": True,
            "index_scheme": "tensor",
            "storage_order": "column_major",
        }


def drawn_layers(count: int, seed: int) -> Iterator[Layer]:
    """Yield random layers of a size near the limits, of those ops that have many shapes."""
    random = np.random.default_rng(seed)
    yielded = 0

    def up_to(most: float) -> int:
        return int(np.exp(random.uniform(0, np.log(max(1, most))))) or 1

    while yielded < count:
        name = str(random.choice(["conv", "conv", "conv_transpose", "pool", "unfold", "fold"]))
        dtype = str(random.choice([*FLOATS, "int64", "int8"]))
        rank = int(random.integers(1, 4))
        is_last = bool(random.integers(2))
        kernel = [up_to(random.choice([3, 7, 50, 3000])) for _ in range(rank)]
        parameters: dict[str, Any] = {
            "data_format": "channels_last" if is_last else "channels_first",
            "stride": [up_to(random.choice([1, 2, 5, 100])) for _ in range(rank)],
            "dilation": [up_to(random.choice([1, 1, 3, 50])) for _ in range(rank)],
            "padding": [[int(random.integers(0, size)), int(random.integers(0, size))] for size in kernel],
        }
        extents = [(size - 1) * step + 1 for size, step in zip(kernel, parameters["dilation"], strict=True)]
        elements = MAX_OPERAND_BYTES // np.dtype(dtype).itemsize * random.uniform(0.1, 1)
        groups = up_to(random.choice([1, 1, 100]))
        channels = groups * up_to(random.choice([1, 8, 500]))
        features = groups * up_to(random.choice([1, 8, 500]))
        sizes = [extent + up_to(elements) - 1 for extent in extents]
        of_input = features if name == "conv_transpose" else channels
        sizes[0] = max(extents[0], int(elements // max(1, math.prod(sizes[1:]) * of_input)))
        batch = max(1, int(elements // (math.prod(sizes) * of_input))) if random.integers(2) else 1

        def laid_out(*inner: int, channels: int, batch: int, is_last: bool = is_last) -> tuple[int, ...]:
            return (batch, *inner, channels) if is_last else (batch, channels, *inner)

        shapes = {"input": laid_out(*sizes, channels=of_input, batch=batch)}
        if name in CONVOLUTIONS:
            parameters["groups"] = groups
            parameters["algorithm"] = str(random.choice(["auto", "auto", "fastest", "winograd", "fft"]))
            of_group = channels // groups
            shapes["weight"] = (*kernel, of_group, features) if is_last else (features, of_group, *kernel)
        else:
            parameters["kernel_size"] = kernel
        if name == "pool":
            parameters["mode"] = str(random.choice(["max", "avg", "lp"]))
        if name == "fold":
            parameters["output_size"] = sizes
            counts = (
                (size + sum(padding) - extent) // step + 1
                for size, padding, extent, step in zip(
                    sizes, parameters["padding"], extents, parameters["stride"], strict=True
                )
            )
            shapes["input"] = laid_out(math.prod(counts), channels=channels * math.prod(kernel), batch=batch)
        layer = Layer(name, parameters, shapes, dtype)
        if any(each.entry.name == name and is_admitted(each, layer) for each in OPERATIONS):
            yielded += 1
            yield layer
