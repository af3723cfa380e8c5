"""Random cases of every operation: parameters and operands, each replayable from a seed and an index."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Operation = Literal["conv", "max", "avg"]

MAX_SIZE = {1: 12, 2: 8, 3: 5}
SCALE_OF_LARGE = {1: 20, 2: 5, 3: 2}  # one case in twenty has axes so many times as long, and more channels
MAX_KERNEL = {1: 6, 2: 4, 3: 3}
MAX_VALUES = ("normal", "integers", "equal", "with NaN", "with -inf", "only -inf", "with all of them")


@dataclasses.dataclass(frozen=True)
class AxisSizes:
    """The sizes of one spatial axis, resolved from the parameters by the rules of the documentation."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    output: int

    @property
    def extent(self) -> int:
        return (self.kernel - 1) * self.dilation + 1


@dataclasses.dataclass(frozen=True)
class Axis(AxisSizes):
    """The geometry of one spatial axis of a convolution or a pooling."""

    @property
    def overhang(self) -> int:
        """By how much the last window reaches beyond the padded input; negative where it leaves a tail unused."""
        return (self.output - 1) * self.stride + self.extent - self.before - self.size - self.after

    @property
    def has_window_without_taps(self) -> bool:
        """Whether every tap of some window lies outside the input."""
        return any(
            not any(0 <= i * self.stride - self.before + t * self.dilation < self.size for t in range(self.kernel))
            for i in range(self.output)
        )


@dataclasses.dataclass(frozen=True)
class Case:
    """What is needed to replay one comparison; the operands follow from seed, index and these fields."""

    operation: Operation
    seed: int
    index: int
    parameters: dict[str, Any]
    input_shape: tuple[int, ...]
    weight_shape: tuple[int, ...] | None = None
    bias_shape: tuple[int, ...] | None = None
    values: str = "normal"
    memory: str = "C"

    @property
    def channels_first(self) -> bool:
        return self.parameters.get("data_format", "channels_last") == "channels_first"

    @property
    def rank(self) -> int:
        return len(self.input_shape) - 2

    def axes(self) -> list[Axis]:
        spatial = self.input_shape[2:] if self.channels_first else self.input_shape[1:-1]
        if self.weight_shape is None:
            kernel = per_axis(self.parameters["kernel_size"], self.rank)
            stride = per_axis(self.parameters.get("stride") or kernel, self.rank)
        else:
            kernel = list(self.weight_shape[2:] if self.channels_first else self.weight_shape[:-2])
            stride = per_axis(self.parameters.get("stride", 1), self.rank)
        dilation = per_axis(self.parameters.get("dilation", 1), self.rank)
        padding = self.parameters.get("padding", 0)
        ceil_mode = self.parameters.get("ceil_mode", False)
        axes = []
        for axis, (n, k, s, d) in enumerate(zip(spatial, kernel, stride, dilation, strict=True)):
            before, after = resolve_padding(padding, axis, n, k, s, d)
            axes.append(Axis(n, k, s, d, before, after, output_size(n, k, s, d, before, after, ceil_mode)))
        return axes

    def output_shape(self) -> tuple[int, ...]:
        """The shape of the output; only for cases whose every axis has an output."""
        spatial = tuple(axis.output for axis in self.axes())
        channels_in = self.input_shape[1 if self.channels_first else -1]
        channels = channels_in if self.weight_shape is None else self.weight_shape[0 if self.channels_first else -1]
        batch = self.input_shape[0]
        return (batch, channels, *spatial) if self.channels_first else (batch, *spatial, channels)

    def refused(self) -> str | None:
        """Why the documentation calls this an error, or None; the axes tell all there is to know."""
        axes = self.axes()
        if any(axis.output < 1 for axis in axes):
            return "the window is larger than the padded input"
        if self.operation == "conv":
            return None
        counts_only_taps = not (
            self.parameters.get("count_include_pad", False) or self.parameters.get("divisor_override") is not None
        )
        if counts_only_taps and any(axis.has_window_without_taps for axis in axes):
            return f"{self.operation} window without a tap in the input"
        return None

    def operands(self, dtype: npt.DTypeLike = np.float64) -> dict[str, Array]:
        """The operands, with a grad_output where there is an output."""
        random = np.random.default_rng([self.seed, _number(self.operation), self.index, 1])
        operands = {"input": draw_values(random, self.input_shape, self.values)}
        if self.weight_shape is not None:
            operands["weight"] = random.standard_normal(self.weight_shape)
        if self.bias_shape is not None:
            operands["bias"] = random.standard_normal(self.bias_shape)
        if self.refused() is None:
            operands["grad_output"] = random.standard_normal(self.output_shape())
        return {name: in_memory(operand.astype(dtype), self.memory) for name, operand in operands.items()}


# ----------------------------------------------------------------------------------------------------------- geometry


def per_axis(value: Any, rank: int) -> list[int]:
    return [value] * rank if isinstance(value, int) else list(value)


def resolve_padding(padding: Any, axis: int, n: int, k: int, s: int, d: int) -> tuple[int, int]:
    """The padding of one axis before and after the input."""
    match padding:
        case "valid":
            return 0, 0
        case "same" | "same_lower":
            total = max(0, (math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n)
            smaller, larger = total // 2, total - total // 2
            return (smaller, larger) if padding == "same" else (larger, smaller)
        case int():
            return padding, padding
    of_axis = padding[axis]
    return (of_axis, of_axis) if isinstance(of_axis, int) else (of_axis[0], of_axis[1])


def output_size(n: int, k: int, s: int, d: int, before: int, after: int, ceil_mode: bool) -> int:
    room = n + before + after - ((k - 1) * d + 1)
    if not ceil_mode:
        return room // s + 1
    output = math.ceil(room / s) + 1
    return output - 1 if (output - 1) * s >= n + before else output


# ------------------------------------------------------------------------------------------------------------ drawing


def draw(operation: Operation, seed: int, index: int) -> Case:
    """Draw a case, valid or not: the same for the same arguments."""
    return (_draw_conv if operation == "conv" else _draw_pool)(operation, seed, index)


def _number(operation: Operation) -> int:
    return ("conv", "max", "avg").index(operation)


def _draw_conv(operation: Operation, seed: int, index: int) -> Case:
    random = np.random.default_rng([seed, _number(operation), index, 0])
    rank = 1 + index % 3
    large = random.random() < 0.05
    parameters, spatial, kernel = draw_windows(random, rank, large, largest_dilation=3)
    parameters.pop("kernel_size")
    more = 5 if large else 1
    if random.random() < 0.5:
        groups, per_group, multiplier = 1, int(random.integers(1, 5)) * more, int(random.integers(1, 5)) * more
    elif random.random() < 0.5:  # depthwise
        groups, per_group, multiplier = int(random.integers(2, 5)) * more, 1, int(random.integers(1, 4))
    else:
        groups, per_group, multiplier = (
            int(random.integers(2, 4)),
            int(random.integers(2, 4)),
            int(random.integers(1, 4)),
        )
    channels_in, channels_out = groups * per_group, groups * multiplier
    if groups > 1 or random.random() < 0.5:
        parameters["groups"] = groups
    bias_shape = None
    if random.random() < 0.6:
        bias_shape = (channels_out,)
        if "data_format" not in parameters and random.random() < 0.4:  # as the notebook has it
            bias_shape = (*[1] * (rank + 1), channels_out)
    batch = draw_batch(random)
    first = parameters.get("data_format") == "channels_first"
    return Case(
        operation,
        seed,
        index,
        parameters,
        (batch, channels_in, *spatial) if first else (batch, *spatial, channels_in),
        (channels_out, per_group, *kernel) if first else (*kernel, per_group, channels_out),
        bias_shape,
        memory=draw_memory(random),
    )


def _draw_pool(operation: Operation, seed: int, index: int) -> Case:
    random = np.random.default_rng([seed, _number(operation), index, 0])
    rank = 1 + index % 3
    dilated = operation == "max" or random.random() < 0.3
    large = random.random() < 0.05
    parameters, spatial, _ = draw_windows(random, rank, large, largest_dilation=3 if dilated else 1, pool=True)
    if random.random() < 0.5:
        parameters["ceil_mode"] = bool(random.random() < 0.8)
    if operation == "avg":
        if random.random() < 0.6:
            parameters["count_include_pad"] = bool(random.random() < 0.8)
        if random.random() < 0.3:
            parameters["divisor_override"] = int(random.choice([-7, -1, 1, 2, 3, 10]))
    elif random.random() < 0.3:
        parameters["ties"] = "first"
    batch, channels = draw_batch(random), int(random.integers(1, 5)) * (5 if large else 1)
    first = parameters.get("data_format") == "channels_first"
    return Case(
        operation,
        seed,
        index,
        parameters,
        (batch, channels, *spatial) if first else (batch, *spatial, channels),
        values=str(random.choice(MAX_VALUES)) if operation == "max" else "normal",
        memory=draw_memory(random),
    )


def draw_windows(
    random: np.random.Generator, rank: int, large: bool, largest_dilation: int, pool: bool = False
) -> tuple[dict[str, Any], list[int], list[int]]:
    """Draw the parameters of the windows, the spatial sizes and the kernel sizes."""
    parameters: dict[str, Any] = {}
    if random.random() < 0.5:
        parameters["data_format"] = str(random.choice(["channels_first", "channels_first", "channels_last"]))
    kernel = draw_per_axis(random, parameters, "kernel_size", rank, 1, MAX_KERNEL[rank], given=True)
    stride = draw_per_axis(random, parameters, "stride", rank, 1, 4, default=kernel if pool else [1] * rank)
    if pool and "stride" not in parameters and random.random() < 0.5:
        parameters["stride"] = None
    dilation = draw_per_axis(random, parameters, "dilation", rank, 1, largest_dilation, default=[1] * rank)
    padding = draw_padding(random, rank)
    if padding != 0 or random.random() < 0.5:
        parameters["padding"] = padding
    spatial = []
    for axis, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True)):
        smallest = 1
        if not isinstance(padding, str) or padding == "valid":
            before, after = resolve_padding(padding, axis, 1, k, s, d)
            smallest = max(1, (k - 1) * d + 1 - before - after)
        if random.random() < 0.03:  # perhaps too small for the window
            smallest = 1
        # The smallest possible size, where the kernel is often larger than the input, is drawn on purpose.
        span = MAX_SIZE[rank] * (SCALE_OF_LARGE[rank] if large else 1)
        spatial.append(smallest if random.random() < 0.25 else smallest + int(random.integers(0, span)))
    return parameters, spatial, kernel


def draw_per_axis(
    random: np.random.Generator,
    parameters: dict[str, Any],
    name: str,
    rank: int,
    low: int,
    high: int,
    default: list[int] | None = None,
    given: bool = False,
) -> list[int]:
    """Draw an int, a list or a tuple of them, or nothing; put it among the parameters and return one per axis."""
    form = random.choice(["int", "list", "tuple"] if given else ["int", "list", "tuple", "omitted", "omitted"])
    if form == "omitted" and default is not None:
        return default
    if form == "int":
        value = int(random.integers(low, high + 1))
        parameters[name] = value
        return [value] * rank
    values = [int(value) for value in random.integers(low, high + 1, size=rank)]
    parameters[name] = tuple(values) if form == "tuple" else values
    return values


def draw_padding(random: np.random.Generator, rank: int) -> Any:
    largest = 5 if random.random() < 0.15 else 2
    match random.choice(["none", "int", "per axis", "per side", "per side", "valid", "same", "same_lower"]):
        case "none":
            return 0
        case "int":
            return int(random.integers(0, largest + 1))
        case "per axis":
            return [int(value) for value in random.integers(0, largest + 1, size=rank)]
        case "per side":
            return [[int(side) for side in sides] for sides in random.integers(0, largest + 1, size=(rank, 2))]
        case word:
            return str(word)


def draw_batch(random: np.random.Generator) -> int:
    return int(random.choice([0, 1, 2, 3], p=[0.06, 0.34, 0.35, 0.25]))


def draw_memory(random: np.random.Generator) -> str:
    return str(random.choice(["C", "F", "reversed"], p=[0.6, 0.2, 0.2]))


# ------------------------------------------------------------------------------------------------------------- values


def draw_values(random: np.random.Generator, shape: tuple[int, ...], kind: str) -> Array:
    if kind == "normal":
        return random.standard_normal(shape)
    values = random.integers(-2, 3, size=shape).astype(np.float64)  # many ties
    if kind == "equal":
        values[...] = 1.0
    if kind in {"with NaN", "with all of them"}:
        values[random.random(shape) < 0.15] = np.nan
    if kind == "with all of them":
        values[random.random(shape) < 0.1] = np.inf
    if kind in {"with -inf", "with all of them"}:
        values[random.random(shape) < 0.4] = -np.inf
    if kind == "only -inf":
        values[...] = -np.inf
    return values


def in_memory(array: Array, memory: str) -> Array:
    """The same values in another layout of the memory."""
    if memory == "F":
        return np.asfortranarray(array)
    if memory == "reversed":
        reverse = (slice(None, None, -1),) * array.ndim
        return np.ascontiguousarray(array[reverse])[reverse]
    return array
