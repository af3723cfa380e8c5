"""Norms, adaptive windows and the indices of maxima against PyTorch in float64, over random combinations.

The windows are those of ``tests.peers.cases.draw("max", seed, index)``; ``adaptive(seed, index)`` draws an adaptive
pooling again.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (as everyone writes it)
from torch import Tensor

from cnn_core import AvgPool, LpPool, MaxPool, ShapeError
from tests.peers.cases import MAX_VALUES, Array, Case, draw, draw_batch, draw_memory, draw_values, in_memory
from tests.peers.drawn import Drawn, compute, generator, grad_output_for
from tests.peers.numbering import SCHEMES, STORAGE_ORDERS, renumbered
from tests.peers.tally import Tally
from tests.peers.torch_side import from_keys, ints, leaf, pad, reach, to_keys

BOUND = 1e-10
CASES = {"lp": 900, "adaptive": 900, "indices": 900}
NORM_TYPES = [1, 1.5, 2, 3, 7]
NORM_VALUES = ["normal", "integers", "sparse", "of every magnitude", "with NaN and infinities"]
MAX_SIZE = {1: 14, 2: 8, 3: 5}

pytestmark = pytest.mark.usefixtures("one_thread")


def windowed(name: str, seed: int, index: int, op: type, input: Array | None = None, **parameters: Any) -> Drawn:
    """The call of another pooling op with the windows and the input of a drawn max pooling."""
    case = draw("max", seed, index)
    given = {key: value for key, value in case.parameters.items() if key != "ties"} | parameters
    return Drawn(name, seed, index, op, given, {"input": case.operands()["input"] if input is None else input})


def leaf_of(drawn: Drawn, array: Array) -> Tensor:
    """A leaf whose channels are first."""
    return leaf(array if drawn.channels_first else np.moveaxis(array, -1, 1))


def differentiate(drawn: Drawn, input: Tensor, output: Tensor, grad_output: Array) -> dict[str, Array]:
    output.backward(leaf_of(drawn, grad_output).detach())
    results = {"output": output.detach().numpy(), "grad_input": input.grad.numpy()}
    return {name: drawn.in_layout(array) for name, array in results.items()}


def root(powers: Tensor, p: float) -> Tensor:
    """The p-th root, with a gradient of 0 at 0."""
    is_zero = powers == 0
    return torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, powers) ** (1 / p))


# --------------------------------------------------------------------------------------------------------- lp pooling


def norm_of_windows(case: Case, input: Tensor, p: float) -> Tensor:
    axes = case.axes()
    # a window may lie before all of the input, where negative padding could not crop to its end
    windows = pad(input, [(before, max(after, 0)) for before, after in reach(axes)])
    for number, axis in enumerate(axes):
        windows = windows.narrow(2 + number, 0, (axis.output - 1) * axis.stride + axis.extent)
        windows = windows.unfold(2 + number, axis.extent, axis.stride)[..., :: axis.dilation]
    return root((windows.abs() ** p).sum(tuple(range(-case.rank, 0))), p)


def has_lp_pool(case: Case) -> bool:
    """Whether PyTorch's lp_pool, of absolute values, is this one: it scales a window that hangs over the end."""
    return all(a.before == a.after == 0 and a.dilation == 1 and a.overhang <= 0 for a in case.axes())


def draw_norm_operand(random: np.random.Generator, case: Case, kind: str) -> tuple[Array, Array]:
    """Draw the values, and powers of two that each channel is to be multiplied by."""
    scales = np.ones(case.input_shape[1 if case.channels_first else -1])
    values = random.standard_normal(case.input_shape)
    if kind == "integers":
        values = draw_values(random, case.input_shape, "integers")
    elif kind == "sparse":
        values[random.random(case.input_shape) < 0.8] = 0.0
    elif kind == "of every magnitude":
        scales = 2.0 ** random.integers(-900, 900, size=scales.shape)
    elif kind == "with NaN and infinities":
        values[random.random(case.input_shape) < 0.1] = np.nan
        values[random.random(case.input_shape) < 0.1] = np.inf
        values[random.random(case.input_shape) < 0.1] = -np.inf
    return values, scales.reshape(-1, *[1] * case.rank) if case.channels_first else scales


def test_lp_pool(seed: int, finish: Callable[..., None]) -> None:
    tally, special = Tally("lp_pool, float64"), Tally("lp_pool of NaN and infinities, forward only, float64")
    refusals = Tally("lp_pool, refused")
    for index in range(CASES["lp"]):
        case, random = draw("max", seed, index), generator("lp_pool", seed, index)
        p, kind = NORM_TYPES[random.integers(len(NORM_TYPES))], NORM_VALUES[random.integers(len(NORM_VALUES))]
        values, scales = draw_norm_operand(random, case, kind)
        # a norm of whole numbers in Python's own ways: an int, or nothing for the default
        given = {} if p == 2 and index % 2 else {"norm_type": p}
        drawn = windowed("lp_pool", seed, index, LpPool, in_memory(values * scales, case.memory), **given)
        if any(axis.output < 1 for axis in case.axes()):

            def refusal(drawn: Drawn = drawn) -> None:
                with pytest.raises(ShapeError):
                    LpPool(**drawn.parameters).forward(drawn.operands["input"])

            refusals.check(drawn, "window larger than the padded input", refusal)
            continue

        def comparison(
            case: Case = case, drawn: Drawn = drawn, values: Array = values, scales: Array = scales, p: float = p
        ) -> None:
            grad_output = grad_output_for(drawn)
            actual = compute(drawn, grad_output)
            for native in {has_lp_pool(case), False}:
                input = leaf_of(drawn, values)
                if native:
                    # lp_pool1d takes no sequences; ceil_mode changes nothing where no window hangs over
                    windows = [ints(case.axes(), name) for name in ("kernel", "stride")]
                    windows = [one[0] for one in windows] if case.rank == 1 else windows
                    output = getattr(F, f"lp_pool{case.rank}d")(input.abs(), p, *windows)
                else:
                    output = norm_of_windows(case, input, p)
                expected = differentiate(drawn, input, output, grad_output)
                tally.close("output", actual["output"] / scales, expected["output"], BOUND)
                tally.close("grad_input", actual["grad_input"], expected["grad_input"], BOUND)

        def forward_only(case: Case = case, drawn: Drawn = drawn, p: float = p) -> None:
            input = drawn.operands["input"]
            expected = drawn.in_layout(norm_of_windows(case, leaf_of(drawn, input), p).detach().numpy())
            special.close("output", LpPool(**drawn.parameters).forward(input), expected, BOUND)

        if kind == "with NaN and infinities":  # where the norm has no derivative
            special.check(drawn, "composed", forward_only)
        else:
            tally.check(drawn, "native" if has_lp_pool(case) else "composed", comparison)
    finish(tally, special, refusals, native=CASES["lp"] // 12, composed=CASES["lp"] // 2)
    assert special.compared >= CASES["lp"] // 9
    assert refusals.compared <= CASES["lp"] // 20


# --------------------------------------------------------------------------------------------------- adaptive windows


def adaptive(seed: int, index: int) -> Drawn:
    """Draw an adaptive pooling: the same for the same arguments."""
    random = generator("adaptive", seed, index)
    op = [MaxPool, AvgPool, LpPool][index // 3 % 3]
    rank = 1 + index % 3
    spatial = [int(size) for size in random.integers(1, MAX_SIZE[rank] + 1, size=rank)]
    largest = MAX_SIZE[rank] if random.random() < 0.5 else max(1, max(spatial) // 2)
    outputs = [int(size) for size in random.integers(1, largest + 1, size=rank)]
    parameters: dict[str, Any] = {"output_size": outputs if random.random() < 0.7 else outputs[0]}
    if random.random() < 0.1:
        parameters["output_size"] = 1
    if random.random() < 0.5:
        parameters["data_format"] = str(random.choice(["channels_first", "channels_first", "channels_last"]))
    if op is LpPool:
        parameters["norm_type"] = NORM_TYPES[random.integers(len(NORM_TYPES))]
    if op is MaxPool:
        parameters["ties"] = str(random.choice(["first", "first", "all", "split"]))
        if random.random() < 0.7:
            parameters |= draw_numbering(random)
    values = str(random.choice(MAX_VALUES)) if op is MaxPool else str(random.choice(["normal", "integers"]))
    if parameters.get("ties") in ("all", "split"):  # what autograd can share has no NaN
        values = str(random.choice(["normal", "integers", "equal"]))
    batch, channels = draw_batch(random), int(random.integers(1, 5))
    first = parameters.get("data_format") == "channels_first"
    shape = (batch, channels, *spatial) if first else (batch, *spatial, channels)
    input = in_memory(draw_values(random, shape, values), draw_memory(random))
    return Drawn(f"adaptive {op.__name__}", seed, index, op, parameters, {"input": input})


def draw_numbering(random: np.random.Generator) -> dict[str, Any]:
    drawn: dict[str, Any] = {"return_indices": True}
    for name, choices in (("index_scheme", SCHEMES), ("storage_order", STORAGE_ORDERS)):
        if random.random() < 0.8:
            drawn[name] = str(random.choice(choices))
    return drawn


def expected_indices(drawn: Drawn, plane: Tensor) -> Array:
    input = drawn.operands["input"]
    shape = input.shape if drawn.channels_first else np.moveaxis(input, -1, 1).shape
    scheme = drawn.parameters.get("index_scheme", "plane")
    order = drawn.parameters.get("storage_order", "row_major")
    return drawn.in_layout(renumbered(plane.numpy(), shape, drawn.channels_first, scheme, order))


def expected_of_adaptive(drawn: Drawn, grad_output: Array) -> dict[str, Array]:
    sizes, rank = drawn.parameters["output_size"], drawn.rank
    sizes = [sizes] * rank if isinstance(sizes, int) else sizes
    spread = itertools.product(*map(range, sizes))
    plain = drawn.operands["input"]
    if drawn.op is MaxPool:
        input = leaf_of(drawn, to_keys(plain))
        output, plane = getattr(F, f"adaptive_max_pool{rank}d")(input, sizes, return_indices=True)
        shown = output
        if drawn.parameters["ties"] != "first":
            windows = [window_of(input, at, sizes) for at in spread]
            largest = torch.stack([window.amax(-1) for window in windows], -1)
            if drawn.parameters["ties"] == "all":
                masks = [(window == window.amax(-1, keepdim=True)).detach() for window in windows]
                largest = torch.stack([(w * mask).sum(-1) for w, mask in zip(windows, masks, strict=True)], -1)
            output = largest.reshape(output.shape)
        results = differentiate(drawn, input, output, grad_output)
        results["output"] = drawn.in_layout(from_keys(shown).numpy())
        return results | {"indices": expected_indices(drawn, plane)}
    input, average = leaf_of(drawn, plain), getattr(F, f"adaptive_avg_pool{rank}d")
    if drawn.op is AvgPool:
        return differentiate(drawn, input, average(input, sizes), grad_output)
    p = drawn.parameters["norm_type"]
    taps = torch.tensor([float(math.prod(w.stop - w.start for w in spans(drawn.spatial, at, sizes))) for at in spread])
    return differentiate(drawn, input, root(average(input.abs() ** p, sizes) * taps.reshape(sizes), p), grad_output)


def spans(spatial: tuple[int, ...], at: tuple[int, ...], sizes: list[int]) -> list[slice]:
    """The window of one output element, by PyTorch's rule in whole numbers."""
    return [slice(i * n // o, ((i + 1) * n + o - 1) // o) for n, i, o in zip(spatial, at, sizes, strict=True)]


def window_of(input: Tensor, at: tuple[int, ...], sizes: list[int]) -> Tensor:
    return input[(slice(None), slice(None), *spans(tuple(input.shape[2:]), at, sizes))].flatten(2)


def test_adaptive_pooling(seed: int, finish: Callable[..., None]) -> None:
    tally = Tally("adaptive pooling, float64")
    for index in range(CASES["adaptive"]):
        drawn = adaptive(seed, index)

        def comparison(drawn: Drawn = drawn) -> None:
            grad_output = grad_output_for(drawn)
            expected = expected_of_adaptive(drawn, grad_output)
            for name, actual in compute(drawn, grad_output).items():
                if name == "indices":
                    assert actual.dtype == np.int64
                    np.testing.assert_array_equal(actual, expected[name])
                tally.close(name, actual, expected[name], BOUND)

        tally.check(drawn, drawn.op.__name__, comparison)
    finish(tally, MaxPool=CASES["adaptive"] // 3, AvgPool=CASES["adaptive"] // 3, LpPool=CASES["adaptive"] // 3)


# ------------------------------------------------------------------------------------------------------------- indices


def plane_indices(case: Case, drawn: Drawn) -> tuple[Tensor, Tensor]:
    """PyTorch's maxima, and their indices in the planes of the input without padding."""
    axes = case.axes()
    input = leaf_of(drawn, to_keys(drawn.operands["input"])).detach()
    padded = pad(input, reach(axes), -torch.inf)
    windows = [ints(axes, name) for name in ("kernel", "stride")]
    output, indices = getattr(F, f"max_pool{case.rank}d")(
        padded, *windows, dilation=ints(axes, "dilation"), return_indices=True
    )
    plane = torch.zeros_like(indices)
    for size, axis, position in zip(drawn.spatial, axes, torch.unravel_index(indices, padded.shape[2:]), strict=True):
        plane = plane * size + position - axis.before
    return from_keys(output), plane


def test_indices_of_maxima(seed: int, finish: Callable[..., None]) -> None:
    tally = Tally("indices of max_pool, float64")
    for index in range(CASES["indices"]):
        case = draw("max", seed, index)
        if case.refused() is not None:
            tally.outside["errors, which the comparison of poolings checks"] += 1
            continue
        numbering = {"return_indices": True} | draw_numbering(generator("indices", seed, index))
        drawn = windowed("max_pool", seed, index, MaxPool, **numbering)

        def comparison(case: Case = case, drawn: Drawn = drawn) -> None:
            grad_output = grad_output_for(drawn)
            actual = compute(drawn, grad_output)
            output, plane = plane_indices(case, drawn)
            tally.close("output", actual["output"], drawn.in_layout(output.numpy()), BOUND)
            np.testing.assert_array_equal(actual["indices"], expected_indices(drawn, plane))
            shape = leaf_of(drawn, drawn.operands["input"]).shape
            gradient = torch.zeros(shape, dtype=torch.float64).flatten(2)
            gradient.scatter_add_(2, plane.flatten(2), leaf_of(drawn, grad_output).detach().flatten(2))
            tally.close("grad_input", actual["grad_input"], drawn.in_layout(gradient.reshape(shape).numpy()), BOUND)

        kind = (drawn.parameters.get("index_scheme", "plane"), drawn.parameters.get("storage_order", "row_major"))
        tally.check(drawn, f"{kind[0]} {kind[1].replace('_', '-')}", comparison)
    finish(tally)
    assert min(tally.counts[f"{a} {b}-major"] for a in SCHEMES for b in ("row", "column")) >= CASES["indices"] // 20
    assert tally.outside.total() <= CASES["indices"] // 3
