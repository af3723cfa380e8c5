"""Layers over datasets of images: ``ray.data`` in, ``ray.data`` out, lazily; needs ``convpool[ray]``.

A row of a dataset has one image in a column: without its batch axis, all of one shape. The functions stack the images
of a batch of rows, call the op, and add its results as columns::

    import numpy as np, ray.data
    from convpool import Conv
    from convpool.arrays.ray import forward

    photos = ray.data.read_images("s3://bucket/photos", size=(224, 224)).rename_columns({"image": "input"})
    edges = forward(Conv(padding="same"), photos, np.ones((3, 3, 3, 8), "float32"))
    edges.select_columns(["output"]).write_parquet("s3://bucket/edges")

Every batch is a task. Operands are put into the object store once, where tasks read them without a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core import MaxPool, MaxUnpool, ParameterError, ShapeError
from cnn_core.operands import accumulation_dtype
from cnn_core.ops.base import Op
from cnn_core.parameters import subset_of

from .operands import bound
from .parts import Layer
from .tasks import BackwardTask, Like

try:
    import ray
    from ray.data import Dataset
    from ray.data.aggregate import AggregateFn
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"convpool.arrays.ray needs {error.name}, which is not installed: pip install 'convpool[ray]'", name=error.name
    ) from error

__all__ = ["backward", "backward_sums", "forward"]

Array = NDArray[Any]
Batch = dict[str, Array]

BATCH_SIZE = 32
"""Images of a task, unless another number is asked for."""


def forward(
    op: Op,
    dataset: Dataset,
    *operands: Any,
    input: str = "input",
    output: str = "output",
    indices: str = "indices",
    batch_size: int = BATCH_SIZE,
    **options: Any,
) -> Dataset:
    """Compute an op for each image of a dataset, lazily.

    Parameters
    ----------
    op : Op
    dataset : ray.data.Dataset
    *operands : array_like
        Those that ``op.forward`` takes after the input, or, for MaxUnpool, none.
    input, output, indices : str
        The columns of the images, of the results, and of the indices of MaxPool and MaxUnpool, if there are any.
    batch_size : int
        Images of a task. Its memory is a few times that of its images and results.
    **options
        Further arguments of ``Dataset.map_batches``: ``num_cpus``, ``memory``, ``concurrency``, ...

    Returns
    -------
    ray.data.Dataset
        The rows with the further columns.

    Raises
    ------
    ParameterError
        If indices would count the elements of all images: a batch does not know how many come before it.
    ConvpoolError
        When it is computed, if images or operands do not fit the op, or the images are not of one shape.
    """
    _require_own_indices(op)
    given = _put(op, operands)

    def compute(batch: Batch) -> Batch:
        result = op.forward(*_operands(op, given, batch, input, indices))  # type: ignore[attr-defined]
        if isinstance(result, tuple):
            return {**batch, output: result[0], indices: result[1]}
        return {**batch, output: result}

    return _mapped(dataset, compute, "forward", op, batch_size, options)


def backward(
    op: Op,
    dataset: Dataset,
    *operands: Any,
    grad_output: str = "grad_output",
    input: str = "input",
    indices: str = "indices",
    grad_input: str = "grad_input",
    batch_size: int = BATCH_SIZE,
    **options: Any,
) -> Dataset:
    """Compute the gradient of ``sum(grad_output * output)`` with respect to each image, lazily.

    Parameters
    ----------
    grad_output, input, indices, grad_input : str
        The columns of what ``op.backward`` takes, and of the gradients.
    op, dataset, *operands, batch_size, **options
        See ``forward``.

    Returns
    -------
    ray.data.Dataset
        The rows with the further column.

    Raises
    ------
    ParameterError, ConvpoolError
        See ``forward``.
    """
    _require_gradients(op, "input")
    _require_own_indices(op)
    given = _put(op, operands)

    def compute(batch: Batch) -> Batch:
        arrays = (_stacked(batch, grad_output), *_operands(op, given, batch, input, indices))
        own: Any = op
        if len(own.differentiable) == 1:
            return {**batch, grad_input: own.backward(*arrays)}
        return {**batch, grad_input: own.backward(*arrays, wrt=("input",)).grad_input}

    return _mapped(dataset, compute, "backward", op, batch_size, options)


def backward_sums(
    op: Op,
    dataset: Dataset,
    *operands: Any,
    grad_output: str = "grad_output",
    input: str = "input",
    wrt: Sequence[str] = ("weight", "bias"),
    batch_size: int = BATCH_SIZE,
    **options: Any,
) -> Dataset:
    """Compute the gradients of a convolution's weight and bias, which are sums over all images, lazily.

    Parameters
    ----------
    wrt : sequence of {"weight", "bias"}
    op, dataset, *operands, grad_output, input, batch_size, **options
        See ``backward``.

    Returns
    -------
    ray.data.Dataset
        One row, with the columns grad_weight and grad_bias: the sums over all images in float64, which
        ``astype`` rounds to the type of ``op.backward``. The sums of batches are added in the order in which they come,
        so that last digits may differ from run to run unless the sums are exact. No row if there is no image.

    Raises
    ------
    ParameterError, ConvpoolError
        See ``forward``.
    """
    names = subset_of(("weight", "bias")).check("wrt", wrt)
    for name in names:
        _require_gradients(op, name)
    given = _put(op, operands)

    def compute(batch: Batch) -> Batch:
        gradient, (images, *others) = _stacked(batch, grad_output), _operands(op, given, batch, input, "")
        arrays = {"input": images} | {
            operand.name: value for operand, value in zip(op.operands[1:], others, strict=False) if value is not None
        }
        dtypes = {name: array.dtype for name, array in arrays.items()} | {"grad_output": gradient.dtype}
        layer = Layer(op, {name: array.shape for name, array in arrays.items()}, dtypes)
        likes = tuple(None if name == "input" else Like(each.shape, each.dtype) for name, each in arrays.items())
        sums = {}
        if "weight" in names:
            task = BackwardTask(op, "weight", likes, dtype=accumulation_dtype(layer.gradient_dtype))
            sums["grad_weight"] = task(gradient, images)
        if "bias" in names:
            sums["grad_bias"] = layer.grad_bias_summand()(gradient)
        return {name: summand.astype(np.float64)[None] for name, summand in sums.items()}

    summands = _mapped(dataset, compute, "backward_sums", op, batch_size, options)
    return summands.groupby(None).aggregate(*(_sum(f"grad_{name}") for name in names))


def _sum(column: str) -> AggregateFn:
    return AggregateFn(
        init=lambda _: 0.0,
        accumulate_row=lambda total, row: total + row[column],
        merge=lambda total, other: total + other,
        name=column,
    )


def _mapped(
    dataset: Dataset, compute: Callable[[Batch], Batch], name: str, op: Op, batch_size: int, options: dict[str, Any]
) -> Dataset:
    compute.__name__ = compute.__qualname__ = f"{type(op).__name__}.{name}"  # what the dashboard shows
    return dataset.map_batches(compute, batch_size=batch_size, batch_format="numpy", **options)


def _put(op: Op, operands: Sequence[Any]) -> Any:
    """Put operands that all tasks need into the object store, and return the reference."""
    if not isinstance(op, MaxUnpool):  # whose second operand is a column
        bound(op, (0, *operands), {})  # says which operand is missing
    return ray.put([None if value is None else np.asarray(value) for value in operands])


def _operands(op: Op, given: Any, batch: Batch, input: str, indices: str) -> list[Any]:
    of_rows = [input, indices] if isinstance(op, MaxUnpool) else [input]
    return [*(_stacked(batch, column) for column in of_rows), *ray.get(given)]


def _stacked(batch: Batch, column: str) -> Array:
    """Return a column of a batch as an array with a batch axis."""
    try:
        array = batch[column]
    except KeyError:
        raise ShapeError(
            column, "must be", "a column of the dataset", got=f"the columns {', '.join(sorted(batch))}"
        ) from None
    if array.dtype == object:
        raise ShapeError(
            column,
            "must have",
            "images of one shape in all rows of a batch",
            got="several shapes",
            hint="crop or resize them, or take batch_size=1",
        )
    return array


def _require_gradients(op: Op, name: str) -> None:
    if name not in op.differentiable:
        raise TypeError(f"{type(op).__name__} has no gradient with respect to {name}")


def _require_own_indices(op: Op) -> None:
    counts_all = isinstance(op, MaxUnpool) or (isinstance(op, MaxPool) and op.return_indices)
    if counts_all and op.index_scheme == "tensor":  # type: ignore[attr-defined]
        raise ParameterError(
            "index_scheme",
            "must be",
            "plane or image",
            got="tensor",
            reason="as a batch of rows does not know how many images come before it",
        )
