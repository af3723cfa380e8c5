"""Layers over chunked arrays: ``dask.array`` in, ``dask.array`` out, lazily; needs ``convpool[dask]``.

``forward`` and ``backward`` take an op and then what the op's own methods take, with arrays of Dask in the place of the
input and of grad_output:

>>> import dask.array as da
>>> import numpy as np
>>> from convpool import Conv
>>> from convpool.arrays.dask import backward, forward
>>> images = da.ones((100, 512, 512, 3), chunks=(10, 256, 256, 3), dtype="float32")
>>> op = Conv(stride=2, padding="same", algorithm="direct")
>>> output = forward(op, images, np.ones((3, 3, 3, 8), "float32"))
>>> output.shape, output.chunks[1]
((100, 256, 256, 8), (128, 128))

Nothing is computed until the result is. Each chunk is computed from the elements that its windows cover, in whichever
chunks these are, so the result is that of one call over the whole array, bit for bit as far as the op's results do not
depend on the size of the array: see docs/scaling.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from cnn_core import ConvGradients, MaxPoolResult
from cnn_core.operands import accumulation_dtype, require_shape
from cnn_core.ops.base import Op
from cnn_core.parameters import subset_of

from .operands import bound, require_divisible, require_known
from .parts import Box, Layer
from .spans import ranges

try:
    import dask.array as da
    from dask.base import tokenize

    from . import graphs
    from .source_padding import over_padded_input
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"convpool.arrays.dask needs {error.name}, which is not installed: pip install 'convpool[dask]'",
        name=error.name,
    ) from error

__all__ = ["backward", "forward"]

CHUNKED = ("input", "indices", "grad_output")
"""The operands that may have chunks; the others are needed as a whole."""


def forward(op: Op, input: Any, *operands: Any, **named: Any) -> Any:
    """Compute an op over a chunked input, lazily.

    Parameters
    ----------
    op : Op
        Any op of ``convpool``: ``Conv(stride=2)``, ``MaxPool(kernel_size=2)``, ...
    input : dask array
        In the op's layout. It may have chunks along the batch; for a convolution or a pooling of a kernel_size along
        the spatial axes, which need not be multiples of the stride or as large as a window; and for these poolings
        along the channels.
    *operands, **named
        The op's other operands in its order, or by name: arrays of NumPy or Dask, each needed as a whole; those of the
        input's shape (``indices`` of MaxUnpool) are chunked as the input is.

    Returns
    -------
    dask array or MaxPoolResult of dask arrays
        What ``op.forward`` returns. Its chunks follow the input's: a window, or what an element scatters to, is in the
        chunk that has its middle. Rechunk the result, or the input, if they do not suit.

    Raises
    ------
    ChunkError
        If the input is chunked along an axis that the op needs as a whole, or its chunks have unknown sizes.
    ConvpoolError
        If shapes, types or parameters do not fit each other, as the op itself raises it.
    """
    return _forward(_Call(op, bound(op, (input, *operands), named)))


def backward(
    op: Op, grad_output: Any, input: Any, *operands: Any, wrt: Sequence[str] | None = None, **named: Any
) -> Any:
    """Compute the gradients of ``sum(grad_output * forward(op, input, *operands))``, lazily.

    Parameters
    ----------
    grad_output : dask array
        Of the output's shape, in any chunks.
    wrt : sequence of str, optional
        Of the operands that have gradients, as for ``op.backward``; all of them if left out.
    op, input, *operands, **named
        See ``forward``.

    Returns
    -------
    dask array or ConvGradients of dask arrays
        What ``op.backward`` returns. grad_input has the input's chunks. The gradients of a weight and a bias have one;
        each is a sum of one summand for each chunk of the output, added up in float64 in a fixed order, whatever the
        workers do.

    Raises
    ------
    ChunkError, ConvpoolError
        See ``forward``.
    """
    if not op.differentiable:
        raise TypeError(f"{type(op).__name__} has no gradients")
    values = bound(op, (input, *operands), named)
    wanted = op.differentiable if wrt is None else subset_of(op.differentiable).check("wrt", wrt)
    call = _Call(op, values, grad_output)
    gradients = {f"grad_{name}": GRADIENTS[name](call) for name in wanted}
    return gradients["grad_input"] if len(op.differentiable) == 1 else ConvGradients(**gradients)


class _Call:
    """The operands of a call, checked: those that have the input's chunks are divided, the others whole."""

    def __init__(self, op: Op, values: dict[str, Any], grad_output: Any = None) -> None:
        self.op = op
        given = {name: graphs.as_array(value) for name, value in values.items() if value is not None}
        arrays = given if grad_output is None else given | {"grad_output": graphs.as_array(grad_output)}
        shapes = {name: array.shape for name, array in given.items()}
        chunked = {name: array for name, array in arrays.items() if name in CHUNKED}
        for name, array in chunked.items():
            require_known(name, array.chunks)
        self.layer = Layer(op, shapes, {name: array.dtype for name, array in arrays.items()})
        if grad_output is not None:
            needed, reason = self.layer.resolved.output_shape, "that of the output of forward"
            require_shape("grad_output", arrays["grad_output"].shape, needed, reason)
        for name, array in chunked.items():
            require_divisible(self.layer, name, array.chunks)
        self.arrays = {name: array if name in chunked else graphs.whole(array) for name, array in arrays.items()}

    def token(self, *more: Any) -> str:
        """Return what distinguishes the tasks of the call: the same for the same op and arrays."""
        return str(tokenize(self.op, sorted((name, array.name) for name, array in self.arrays.items()), *more))

    def argument(self, name: str, box: Box | None, sources: dict[str, Any]) -> Any:
        """Return an operand as the argument of a task: a box of it, or None for no box; or all of it; or None."""
        if name not in sources:
            return None
        return sources[name] if name not in CHUNKED else None if box is None else graphs.Read(sources[name], box)


def _forward(call: _Call) -> Any:
    op, (layer, padding) = call.op, over_padded_input(call.layer)
    chunks = call.layer.output_chunks(call.arrays["input"].chunks)
    arrays = call.arrays
    if padding:
        arrays = arrays | {"input": padding.pad(arrays["input"])}
    sources = {name: graphs.Source(array) for name, array in arrays.items()}

    def task(box: Box) -> tuple[Any, list[Any]]:
        compute, needed = layer.forward(box)
        return compute, [call.argument(operand.name, needed, sources) for operand in op.operands]

    dtypes = op.result_dtypes(layer.dtypes)
    prefix = f"{type(op).__name__.lower()}-forward"
    result = graphs.computed(prefix, call.token(), chunks, dtypes["output"], task)
    if len(dtypes) == 1:
        return result
    return MaxPoolResult(*(graphs.member(result, place, dtype) for place, dtype in enumerate(dtypes.values())))


def _grad_input(call: _Call) -> da.Array:
    op = call.op
    # what is folded must not have been rounded before
    layer, padding = over_padded_input(call.layer, grad_output=accumulation_dtype(call.layer.gradient_dtype))
    chunks = call.arrays["input"].chunks
    sources = {name: graphs.Source(array) for name, array in call.arrays.items()}

    def task(box: Box) -> tuple[Any, list[Any]]:
        compute, of_output, of_input = layer.grad_input(box)
        arguments = [call.argument("grad_output", of_output, sources)]
        for operand, like in zip(op.operands, compute.operands, strict=False):
            if like is None:
                arguments.append(call.argument(operand.name, of_input, sources))
        return compute, arguments

    prefix, token = f"{type(op).__name__.lower()}-grad-input", call.token("input")
    if padding is None:
        return graphs.computed(prefix, token, chunks, layer.gradient_dtype, task)
    gradient = graphs.computed(prefix, token, padding.padded_chunks(chunks), layer.gradient_dtype, task)
    return padding.fold(gradient).astype(call.layer.gradient_dtype).rechunk(chunks)


def _grad_weight(call: _Call) -> da.Array:
    layer, padding = over_padded_input(call.layer)
    input = call.arrays["input"]
    if padding:
        input = padding.pad(input)
    of_output, of_input = graphs.Source(call.arrays["grad_output"]), graphs.Source(input)

    def task(box: Box) -> tuple[Any, list[Any]]:
        compute, output_box, input_box = layer.grad_weight_summand(box)
        return compute, [graphs.Read(of_output, output_box), graphs.Read(of_input, input_box)]

    return _summed(call, "weight", of_input if layer.is_transposed else of_output, task)


def _grad_bias(call: _Call) -> da.Array:
    of_output, compute = graphs.Source(call.arrays["grad_output"]), call.layer.grad_bias_summand()
    return _summed(call, "bias", of_output, lambda box: (compute, [graphs.Read(of_output, box)]))


def _summed(call: _Call, name: str, chunked: graphs.Source, task: Callable[[Box], tuple[Any, list[Any]]]) -> da.Array:
    """Return the sum of the summands of the chunks of an array."""
    boxes = itertools.product(*map(ranges, chunked.array.chunks))
    shape, dtype = call.layer.resolved.gradient_shapes[name], call.layer.gradient_dtype
    return graphs.summed(f"{type(call.op).__name__.lower()}-grad-{name}", call.token(name), boxes, shape, dtype, task)


GRADIENTS = {"input": _grad_input, "weight": _grad_weight, "bias": _grad_bias}
