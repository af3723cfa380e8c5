"""The samples that PyTorch tests its own layers with: outputs, indices and all gradients, in both data formats.

A sample is compared in full, or it is one of the exceptions listed here, and then what makes it one is checked.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from cnn_core import MaxPool
from tests.peers.cases import Array
from tests.peers.opinfo_samples import Sample, infos, read_samples
from tests.peers.tally import Tally, write

BOUND = 1e-10  # of max|a - b| / max|b|

# How many samples are compared at least, without those whose batch is empty. PyTorch has none for fold: it gets those
# of its adjoint, unfold.
COMPARED = {
    "nn.functional.conv1d": 10,
    "nn.functional.conv2d": 30,
    "nn.functional.conv3d": 20,
    "nn.functional.conv_transpose1d": 10,
    "nn.functional.conv_transpose2d": 12,
    "nn.functional.conv_transpose3d": 10,
    "nn.functional.max_pool1d": 864,
    "nn.functional.max_pool2d": 1440,
    "nn.functional.max_pool3d": 576,
    "max_pool2d_with_indices_backward": 1440,
    "nn.functional.avg_pool1d": 8,
    "nn.functional.avg_pool2d": 7,
    "nn.functional.avg_pool3d": 7,
    "nn.functional.adaptive_max_pool1d": 8,
    "nn.functional.adaptive_max_pool2d": 24,
    "nn.functional.adaptive_max_pool3d": 20,
    "nn.functional.adaptive_avg_pool1d": 5,
    "nn.functional.adaptive_avg_pool2d": 10,
    "nn.functional.adaptive_avg_pool3d": 11,
    "nn.functional.max_unpool1d": 88,
    "nn.functional.max_unpool2d": 107,
    "nn.functional.max_unpool3d": 32,
    "nn.functional.max_unpool1d.grad": 18,
    "nn.functional.max_unpool2d.grad": 35,
    "nn.functional.max_unpool3d.grad": 9,
    "nn.functional.unfold": 82,
    "nn.functional.fold": 82,
}

# Where an unpooling gets an index twice, cnn_core's gradient goes to the element whose value was written, PyTorch's to
# all of them. The output is compared all the same, and the gradient with PyTorch's for the elements that were written.
REPEATED_INDICES = "an index occurs twice in a plane"
EXCEPTIONS: dict[str, dict[str, int]] = {
    "nn.functional.max_unpool1d": {REPEATED_INDICES: 56},
    "nn.functional.max_unpool2d": {REPEATED_INDICES: 181},
    "nn.functional.max_unpool3d": {REPEATED_INDICES: 64},
}

# Whatever else of PyTorch convolves, pools or folds.
NO_OPERATION_OF_CNN_CORE = {
    "nn.functional.fractional_max_pool2d": "windows at random places",
    "nn.functional.fractional_max_pool3d": "windows at random places",
    "unfold": "Tensor.unfold, a view of windows along one axis",
    "unfold_copy": "Tensor.unfold, a view of windows along one axis",
}

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def compute(sample: Sample) -> dict[str, Array]:
    """Return all results by cnn_core, by the names of what PyTorch computed; PyTorch's defaults hold."""
    op: Any = sample.op(**sample.parameters, framework="torch")
    operands = list(sample.operands.values())
    copies = [operand.copy() for operand in operands]
    output, backward = op.forward(*operands), op.backward(sample.grad_output, *operands)
    results = {}
    if sample.op is MaxPool and sample.parameters.get("return_indices", False):
        output, results["indices"] = output
    assert op.output_shape(*(operand.shape for operand in operands)) == output.shape
    assert all(map(np.array_equal, operands, copies)), "an operand was modified"
    results["output"] = output
    if "weight" in sample.operands:
        results |= {name: getattr(backward, name) for name in ("grad_input", "grad_weight", "grad_bias")}
    else:
        results["grad_input"] = backward
    return results


def compare(tally: Tally, sample: Sample) -> None:
    results = compute(sample)
    assert set(results) == set(sample.expected)
    for name, expected in sample.expected.items():
        if name == "indices":
            assert results[name].dtype == np.int64
            np.testing.assert_array_equal(results[name], expected)
        else:
            assert results[name].dtype == np.float64
            tally.close(name, results[name], expected, BOUND)


def is_written(indices: Array) -> Array:
    """Tell for each element of an unpooling's input whether no later one of its plane has its index."""
    planes = indices.reshape(-1, math.prod(indices.shape[2:]))
    equal = planes[:, :, None] == planes[:, None, :]
    return ~np.triu(equal, 1).any(axis=-1).reshape(indices.shape)


def judge(sample: Sample) -> tuple[str | None, Sample]:
    """Return why a sample cannot agree with PyTorch, or None, and with what it has to agree."""
    if "indices" in sample.operands:
        gradient = np.where(is_written(sample.operands["indices"]), sample.expected["grad_input"], 0.0)
        if not np.array_equal(gradient, sample.expected["grad_input"]):
            return REPEATED_INDICES, sample.expecting(grad_input=gradient)
    return None, sample


@pytest.mark.parametrize("name", COMPARED)
def test_samples(name: str, request: pytest.FixtureRequest) -> None:
    tally, exceptions = Tally(name), Tally(f"{name}, by the rule of cnn_core")
    for original in read_samples(name):
        reason, sample = judge(original)
        kept = tally if reason is None else exceptions

        def comparison(kept: Tally = kept, sample: Sample = sample) -> None:
            compare(kept, sample)
            compare(kept, sample.in_channels_last())

        kept.check(sample, reason or ("samples" if sample.grad_output.size else "of empty batches"), comparison)
    tally.outside += exceptions.counts
    write(request, tally)
    failures = tally.failures + exceptions.failures
    if failures:
        pytest.fail(f"{len(failures)} samples failed, among them\n" + "\n".join(failures[:8]), pytrace=False)
    assert tally.outside == collections.Counter(EXCEPTIONS.get(name, {}))
    assert tally.counts["samples"] >= COMPARED[name]


def test_every_kind_of_sample_is_known() -> None:
    assert set(infos()) | {"nn.functional.fold"} == set(COMPARED) | set(NO_OPERATION_OF_CNN_CORE)
