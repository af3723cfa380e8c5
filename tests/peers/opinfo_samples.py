"""PyTorch's own samples of its layers (OpInfo) in the words of cnn_core, with what PyTorch computes from them."""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (as everyone writes it)
from torch import Tensor
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import OpInfo, SampleInput

from cnn_core import AvgPool, Conv, ConvTranspose, Fold, MaxPool, MaxUnpool, Unfold
from tests.peers.cases import Array

SEED = 20260519  # of the values; which indices an unpooling gets twice depends on them

CONV, TRANSPOSED = ("stride", "padding", "dilation", "groups"), ("output_padding", "groups", "dilation")
AVERAGE = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
UNFOLD = ("kernel_size", "dilation", "padding", "stride")
WINDOWED: dict[str, tuple[type, tuple[str, ...]]] = {
    "conv": (Conv, ("weight", "bias", *CONV)),
    "conv_transpose": (ConvTranspose, ("weight", "bias", "stride", "padding", *TRANSPOSED)),
    "max_pool": (MaxPool, ()),
    "avg_pool": (AvgPool, AVERAGE),
    "adaptive_max_pool": (MaxPool, ("output_size", "return_indices")),
    "adaptive_avg_pool": (AvgPool, ("output_size",)),
    "max_unpool": (MaxUnpool, ("indices",)),
}
# The rank, the op, and PyTorch's names of what its samples give by position after the input.
CATALOGUE: dict[str, tuple[int, type, tuple[str, ...]]] = {
    f"nn.functional.{name}{rank}d": (rank, op, names) for name, (op, names) in WINDOWED.items() for rank in (1, 2, 3)
} | {
    "nn.functional.unfold": (2, Unfold, UNFOLD),
    "max_pool2d_with_indices_backward": (2, MaxPool, ()),
}
OF_INPUT_SHAPE = {"input", "output", "indices", "grad_output", "grad_input"}
OPERANDS = ("input", "weight", "bias", "indices")


@dataclasses.dataclass(frozen=True)
class Sample:
    """A batched sample in channels_first: the parameters and operands of an op, and PyTorch's results."""

    name: str
    index: int
    op: type
    parameters: dict[str, Any]
    operands: dict[str, Array] = dataclasses.field(repr=False)
    grad_output: Array = dataclasses.field(repr=False)
    expected: dict[str, Array] = dataclasses.field(repr=False)

    def __str__(self) -> str:
        shapes = {name: operand.shape for name, operand in self.operands.items()}
        return f"sample {self.index} of {self.name}: {self.op.__name__}(**{self.parameters}) of {shapes}"

    def expecting(self, **results: Array) -> Sample:
        """The same sample, with other results to compare with."""
        return dataclasses.replace(self, expected=self.expected | results)

    def in_channels_last(self) -> Sample:
        """The same sample in the other data format."""

        def moved(arrays: dict[str, Array]) -> dict[str, Array]:
            return {name: self._moved(name, array) for name, array in arrays.items()}

        return dataclasses.replace(
            self,
            parameters=self.parameters | {"data_format": "channels_last"},
            operands=moved(self.operands),
            grad_output=self._moved("grad_output", self.grad_output),
            expected=moved(self.expected),
        )

    def _moved(self, name: str, array: Array) -> Array:
        if name in {"weight", "grad_weight"}:
            return np.moveaxis(array, (0, 1), (-1, -2))
        if name not in OF_INPUT_SHAPE:
            return array
        if (self.op is Unfold and "output" in name) or (self.op is Fold and "input" in name):
            # (N, C * taps, L), where C is that of the image; what belongs to a tap is together in the other format.
            image = self.operands["input"] if self.op is Unfold else self.expected["output"]
            batch, channels, taps, positions = len(array), image.shape[1], self._taps(), array.shape[2]
            parts = array.reshape(batch, channels, taps, positions).transpose(0, 3, 2, 1)
            return parts.reshape(batch, positions, taps * channels)
        return np.moveaxis(array, 1, -1)

    def _taps(self) -> int:
        kernel = self.parameters["kernel_size"]
        return kernel**2 if isinstance(kernel, int) else math.prod(kernel)


def infos() -> dict[str, OpInfo]:
    """Return PyTorch's descriptions of everything that convolves, pools or folds."""
    return {info.full_name: info for info in op_db if any(word in info.name for word in ("conv", "pool", "fold"))}


def read_samples(name: str) -> Iterator[Sample]:
    """Read the samples of one OpInfo; for ``nn.functional.fold``, which has none, of its adjoint unfold."""
    of_fold = name == "nn.functional.fold"
    info = infos()["nn.functional.unfold" if of_fold else name]
    torch.manual_seed(SEED)
    for index, sample in enumerate(info.sample_inputs("cpu", torch.float64, requires_grad=True)):
        random = np.random.default_rng([SEED, zlib.crc32(name.encode()), index])
        yield _read_fold(index, sample, random) if of_fold else _read(info, index, sample, random)


def _read(info: OpInfo, index: int, sample: SampleInput, random: np.random.Generator) -> Sample:
    rank, op, names = CATALOGUE[info.name]
    given = dict(zip(names, sample.args, strict=False)) | sample.kwargs
    tensors = {"input": sample.input} | {name: given.pop(name) for name in OPERANDS if name in given}
    tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    if info.name == "max_pool2d_with_indices_backward":
        grad_output, expected = _gradient_of_max_pool(info, sample)
    else:
        grad_output, expected = _evaluate(info, sample, tensors, random)
    operands = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
    if sample.input.ndim == rank + 1:
        operands, expected, grad_output = _with_batch(operands), _with_batch(expected), grad_output[None]
    if "weight" in operands and "bias" not in operands:  # cnn_core has the gradient of a bias that is not there, too
        expected["grad_bias"] = grad_output.sum(axis=(0, *range(2, rank + 2)))
    parameters = {key: _parameter(key, value, sample.input.shape[-rank:]) for key, value in given.items()}
    return Sample(info.full_name, index, op, parameters, operands, grad_output, expected)


def _evaluate(
    info: OpInfo, sample: SampleInput, tensors: dict[str, Tensor], random: np.random.Generator
) -> tuple[Array, dict[str, Array]]:
    """Return a gradient of the output, and PyTorch's results for it."""
    output, indices = _split(info.op(sample.input, *sample.args, **sample.kwargs))
    grad_output = random.standard_normal(tuple(output.shape))
    return grad_output, _differentiate(output, grad_output, tensors) | indices


def _gradient_of_max_pool(info: OpInfo, sample: SampleInput) -> tuple[Array, dict[str, Array]]:
    """Return ones, whose gradient this OpInfo computes, and that gradient."""
    output, indices = _split(F.max_pool2d(sample.input, **sample.kwargs))
    gradient = info.op(sample.input, **sample.kwargs)
    expected = {"output": output.detach().numpy(), "grad_input": gradient.detach().numpy()}
    return np.ones(tuple(output.shape)), expected | indices


def _split(result: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Array]]:
    """Return the output, and the indices if there are any."""
    return (result[0], {"indices": result[1].numpy()}) if isinstance(result, tuple) else (result, {})


def _read_fold(index: int, unfolding: SampleInput, random: np.random.Generator) -> Sample:
    given = dict(zip(UNFOLD, unfolding.args, strict=False)) | unfolding.kwargs
    size = tuple(unfolding.input.shape[2:])
    shape = F.unfold(unfolding.input, *unfolding.args, **unfolding.kwargs).shape
    tensors = {"input": torch.tensor(random.standard_normal(tuple(shape)), requires_grad=True)}
    output = F.fold(tensors["input"], size, **given)
    grad_output = random.standard_normal(tuple(output.shape))
    expected = _differentiate(output, grad_output, tensors)
    parameters = {"output_size": size} | {key: _parameter(key, value, size) for key, value in given.items()}
    operands = {"input": tensors["input"].detach().numpy()}
    return Sample("nn.functional.fold", index, Fold, parameters, operands, grad_output, expected)


def _differentiate(output: Tensor, grad_output: Array, tensors: dict[str, Tensor]) -> dict[str, Array]:
    leaves = {name: tensor for name, tensor in tensors.items() if tensor.requires_grad}
    gradients = torch.autograd.grad(output, list(leaves.values()), torch.tensor(grad_output))
    arrays = {f"grad_{name}": gradient.numpy() for name, gradient in zip(leaves, gradients, strict=True)}
    return {"output": output.detach().numpy()} | arrays


def _with_batch(arrays: dict[str, Array]) -> dict[str, Array]:
    return {name: array[None] if name in OF_INPUT_SHAPE else array for name, array in arrays.items()}


def _parameter(name: str, value: Any, sizes: Sequence[int]) -> Any:
    """Write a parameter as cnn_core does, where PyTorch has a short form of its own."""
    if not isinstance(value, tuple):
        return value
    if name == "output_size":  # of an unpooling it has batch and channels, too; None is the size of the input
        last = value[-len(sizes) :]
        return tuple(size if entry is None else entry for entry, size in zip(last, sizes, strict=True))
    if len(value) < len(sizes):  # one entry for all axes; none at all is a stride that is not given
        return value[0] if value else None
    return value
