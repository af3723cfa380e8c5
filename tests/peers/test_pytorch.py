"""Forward and all gradients against PyTorch's autograd in float64 over random combinations of the parameters.

``CONVPOOL_PEERS_SEED`` changes the seed. A failure names the operation, the seed and the index of its cases;
``tests.peers.cases.draw(operation, seed, index)`` draws a case again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from cnn_core import AvgPool, Conv, MaxPool, ShapeError
from tests.peers import torch_side
from tests.peers.cases import Array, Case, Operation, draw
from tests.peers.tally import RESULTS, Tally, write

SEED = int(os.environ.get("CONVPOOL_PEERS_SEED", "20260519"))
TARGETS: dict[Operation, int] = {"conv": 2000, "max": 1200, "avg": 1200}
SUBSET = 150  # of each operation, where a comparison is repeated in another way
OPERATIONS: list[Operation] = ["conv", "max", "avg"]

# Of max|a - b| / max|b|, or of max|a| where b is all zeros. Half of the last place of float16 is 2**-11.
FLOAT64, FLOAT32, FLOAT16, FLOAT16_OF_BOTH = 1e-10, 2e-5, 2**-11 + 2e-5, 4e-3
NATIVE = "by PyTorch's own arguments"
REFUSAL = r"(Kernel size can't be greater|Output size is too small|Invalid computed output size)"

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def total(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """What all tests against float64 have compared; written at the end, past pytest's capture."""
    total = Tally(f"All operations, PyTorch {torch.__version__}, float64, seed {SEED}")
    yield total
    write(request, total)


@pytest.fixture
def report(request: pytest.FixtureRequest, total: Tally) -> Callable[[Tally], None]:
    """Write the summary, then fail with the first failures."""

    def finish(tally: Tally) -> None:
        write(request, tally)
        if tally.title.endswith(", float64"):
            total.add(tally)
        if tally.failures:
            shown = "\n".join(tally.failures[:8])
            pytest.fail(f"{len(tally.failures)} of {tally.compared} cases failed, among them\n{shown}", pytrace=False)

    return finish


def operator(case: Case, **more: Any) -> Any:
    return {"conv": Conv, "max": MaxPool, "avg": AvgPool}[case.operation](**case.parameters, **more)


def compute(op: Any, operands: dict[str, Array]) -> dict[str, Array]:
    """Return the output and all gradients by cnn_core, having checked that the operands are as they were."""
    before = {name: operand.copy() for name, operand in operands.items()}
    forward_operands = [operands[name] for name in ("input", "weight", "bias") if name in operands]
    output = op.forward(*forward_operands)
    backward = op.backward(operands["grad_output"], *forward_operands)
    results = {"output": output}
    if "weight" in operands:
        results |= {name: getattr(backward, name) for name in RESULTS[1:]}
    else:
        results["grad_input"] = backward
    predicted = op.output_shape(*(operand.shape for operand in forward_operands))
    assert predicted == output.shape, f"output_shape says {predicted}, the output has {output.shape}"
    for name, operand in operands.items():
        assert np.array_equal(operand, before[name], equal_nan=True), f"{name} was modified"
    dtype = operands["input"].dtype if operands["input"].dtype.kind == "f" else np.dtype(np.float64)
    assert all(result.dtype == dtype for result in results.values()), "a result has another dtype"
    return results


def valid_cases(operation: Operation, number: int, accept: Callable[[Case], bool] = lambda _: True) -> Iterator[Case]:
    """Draw the first so many cases that are no errors and are accepted."""
    index = 0
    while number:
        case = draw(operation, SEED, index)
        if case.refused() is None and accept(case):
            number -= 1
            yield case
        index += 1


def check_refusal(case: Case) -> None:
    """Check that cnn_core refuses the case, from the shapes as well as from the operands."""
    operands = list(case.operands().values())
    with pytest.raises(ShapeError):
        operator(case).output_shape(*(operand.shape for operand in operands))
    with pytest.raises(ShapeError):
        operator(case).forward(*operands)
    if "larger" in str(case.refused()) and torch_side.is_native(case):
        named = {name: operand.astype(np.float64) for name, operand in case.operands().items()}
        with pytest.raises(RuntimeError, match=REFUSAL):
            torch_side.forward_native(case, named, torch.float64)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_float64(operation: Operation, report: Callable[[Tally], None]) -> None:
    """Every drawn case counts: as a comparison, or as an error that cnn_core has to report."""
    tally, refusals = Tally(f"{operation}, float64"), Tally("refusals")
    target, index = TARGETS[operation], 0
    while tally.compared < target and index < 2 * target:
        case = draw(operation, SEED, index)
        index += 1
        reason = case.refused()
        if reason is not None:
            tally.outside[f"an error: {reason}"] += 1
            refusals.check(case, "refused", lambda case=case: check_refusal(case))
            continue

        def comparison(case: Case = case) -> None:
            operands = case.operands()
            expected = torch_side.evaluate(case, operands)
            for name, actual in compute(operator(case), operands).items():
                tally.close(name, actual, expected[name], FLOAT64)

        tally.check(case, NATIVE if torch_side.is_native(case) else "by composition", comparison)
    tally.failures += refusals.failures
    report(tally)
    assert tally.compared >= target
    assert tally.counts[NATIVE] >= target // 4


@pytest.mark.parametrize("ties", ["all", "split"])
def test_ties(ties: str, report: Callable[[Tally], None]) -> None:
    """The gradient of tied maxima, against an expression of windows whose gradient autograd derives."""
    tally = Tally(f"max, ties={ties}, float64")
    for case in valid_cases("max", 2 * SUBSET, lambda case: "ties" not in case.parameters):

        def comparison(case: Case = case) -> None:
            operands = case.operands()
            expected = torch_side.evaluate_ties(case, operands, ties)
            for name, actual in compute(operator(case, ties=ties), operands).items():
                tally.close(name, actual, expected[name], FLOAT64)

        tally.check(case, "by windows", comparison)
    report(tally)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, FLOAT32), (np.float16, FLOAT16)])
def test_narrower_dtypes(operation: Operation, dtype: type, bound: float, report: Callable[[Tally], None]) -> None:
    """The result is that of float64 on the same operands, but for the rounding (float16 accumulates in float32)."""
    tally = Tally(f"{operation}, {np.dtype(dtype)} against PyTorch's float64")
    for case in valid_cases(operation, SUBSET):

        def comparison(case: Case = case) -> None:
            operands = case.operands(dtype)
            expected = torch_side.evaluate(case, operands)
            for name, actual in compute(operator(case), operands).items():
                tally.close(name, actual, expected[name], bound)

        tally.check(case, "cases", comparison)
    report(tally)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, FLOAT32), (torch.float16, FLOAT16_OF_BOTH)])
def test_narrower_dtypes_of_both(
    operation: Operation, dtype: torch.dtype, bound: float, report: Callable[[Tally], None]
) -> None:
    """The output in the dtype in which PyTorch computes, too."""
    name = str(dtype).removeprefix("torch.")
    tally = Tally(f"{operation}, {name} in both")
    for case in valid_cases(operation, SUBSET, torch_side.is_native):
        if (operation, case.rank, name) == ("avg", 3, "float16"):
            tally.outside["PyTorch has no avg_pool3d in float16"] += 1
            continue

        def comparison(case: Case = case) -> None:
            operands = case.operands(name)
            del operands["grad_output"]
            expected = torch_side.forward_native(case, operands, dtype)
            actual = operator(case).forward(*operands.values())
            assert actual.dtype == name
            tally.close("output", actual, expected, bound)

        tally.check(case, "cases", comparison)
    report(tally)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_compositions_are_what_pytorch_computes(operation: Operation, report: Callable[[Tally], None]) -> None:
    """Where PyTorch's own arguments express a case, the composition gives the same output and gradients."""
    tally = Tally(f"{operation}, PyTorch composed and native")
    for case in valid_cases(operation, SUBSET, torch_side.is_native):

        def comparison(case: Case = case) -> None:
            operands = case.operands()
            native, composed = (torch_side.evaluate(case, operands, native=how) for how in (True, False))
            for name, expected in native.items():
                tally.close(name, composed[name], expected, FLOAT64)

        tally.check(case, "cases", comparison)
    report(tally)


# Layers of real networks: large enough for every way of computing that depends on sizes.
LARGER = [
    Case("conv", 0, 0, {"stride": 2, "padding": 3}, (2, 64, 64, 3), (7, 7, 3, 32), (32,)),
    Case("conv", 0, 1, {"padding": "same"}, (2, 28, 28, 64), (3, 3, 64, 64), (64,)),
    Case("conv", 0, 2, {"padding": 1, "data_format": "channels_first"}, (2, 64, 28, 28), (96, 64, 3, 3), (96,)),
    Case("conv", 0, 3, {"data_format": "channels_first", "stride": 2}, (4, 128, 14, 14), (64, 128, 1, 1)),
    Case("conv", 0, 4, {"padding": "same", "groups": 96}, (2, 28, 28, 96), (5, 5, 1, 96), (96,)),
    Case("conv", 0, 5, {"padding": 2, "groups": 8, "dilation": 2}, (2, 20, 20, 64), (3, 3, 8, 128)),
    Case("conv", 0, 6, {"padding": "same_lower", "stride": 2}, (1, 12, 20, 20, 8), (3, 3, 3, 8, 24), (24,)),
    Case("conv", 0, 7, {"data_format": "channels_first", "dilation": 16}, (2, 8, 4000), (16, 8, 9), (16,)),
    Case("conv", 0, 8, {}, (1, 40, 40, 1), (33, 33, 1, 2), (2,)),
    Case("max", 0, 9, {"kernel_size": 3, "stride": 2, "padding": 1}, (2, 57, 56, 64), values="integers"),
    Case("max", 0, 10, {"kernel_size": 2, "data_format": "channels_first"}, (2, 64, 56, 56), values="with NaN"),
    Case("max", 0, 11, {"kernel_size": 13, "stride": 1, "padding": "same"}, (1, 30, 30, 8), values="with all of them"),
    Case("max", 0, 12, {"kernel_size": 3, "stride": 2, "ceil_mode": True}, (1, 20, 20, 20, 16), values="with -inf"),
    Case("avg", 0, 13, {"kernel_size": 3, "stride": 2, "padding": 1}, (2, 57, 56, 64)),
    Case("avg", 0, 14, {"kernel_size": 7, "data_format": "channels_first"}, (4, 256, 7, 7)),
    Case("avg", 0, 15, {"kernel_size": 3, "stride": 2, "dilation": 3, "count_include_pad": True}, (1, 40, 40, 32)),
    Case("avg", 0, 16, {"kernel_size": 24, "stride": 8, "ceil_mode": True}, (4, 5000, 3)),
]


@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, FLOAT64), (np.float32, FLOAT32), (np.float16, FLOAT16)])
def test_larger_sizes(dtype: type, bound: float, report: Callable[[Tally], None]) -> None:
    name = np.dtype(dtype).name
    tally = Tally("larger sizes, float64" if name == "float64" else f"larger sizes, {name} against PyTorch's float64")
    for case in LARGER:

        def comparison(case: Case = case) -> None:
            operands = case.operands(dtype)
            expected = torch_side.evaluate(case, operands)
            for name, actual in compute(operator(case), operands).items():
                tally.close(name, actual, expected[name], bound)

        tally.check(case, NATIVE if torch_side.is_native(case) else "by composition", comparison)
    report(tally)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_integers_compute_as_float64(operation: Operation, report: Callable[[Tally], None]) -> None:
    dtypes = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
    tally = Tally(f"{operation}, integers against PyTorch's float64")
    for number, case in enumerate(valid_cases(operation, 8 * len(dtypes), lambda case: case.values == "normal")):

        def comparison(case: Case = case, dtype: str = dtypes[number % len(dtypes)]) -> None:
            whole = {name: np.abs(np.rint(4 * operand)) for name, operand in case.operands().items()}
            expected = torch_side.evaluate(case, whole)
            results = compute(operator(case), {name: operand.astype(dtype) for name, operand in whole.items()})
            for name, actual in results.items():
                tally.close(name, actual, expected[name], FLOAT64)

        tally.check(case, "cases", comparison)
    report(tally)


def test_float16_accumulates_in_float32() -> None:
    input = np.full((1, 1, 512), 1000, dtype=np.float16)
    expected = torch.nn.functional.avg_pool1d(torch.tensor(input), 512).numpy()
    actual = AvgPool(kernel_size=512, data_format="channels_first").forward(input)
    np.testing.assert_array_equal(actual, expected, strict=True)
    assert actual.item() == 1000
