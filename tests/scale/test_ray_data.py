"""Layers over datasets of images give what one call over all images gives: that call is the oracle here."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import numpy as np
import pytest
import ray
import ray.data

from convpool import (
    AvgPool,
    Conv,
    ConvInteger,
    ConvTranspose,
    LpPool,
    MaxPool,
    MaxUnpool,
    ParameterError,
    Unfold,
)
from convpool.arrays.ray import backward, backward_sums, forward
from tests.scale.sections import example

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray uses what it, and what it stands on, has deprecated

IMAGES = 23  # no multiple of the batch size


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, object_store_memory=100 * 2**20, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


def integers(*shape: int, seed: int = 0, dtype: str = "float32") -> Any:
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype)


def dataset(**columns: Any) -> Any:
    """Rows in several blocks, with a number by which they are put in order again."""
    rows = [{"number": number} | {name: values[number] for name, values in columns.items()} for number in range(IMAGES)]
    return ray.data.from_items(rows, override_num_blocks=4)


def columns_of(computed: Any) -> dict[str, Any]:
    rows = sorted(computed.take_all(), key=lambda row: row["number"])
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


LAYERS = [
    (Conv(stride=2, padding=1, padding_mode="reflect"), (integers(3, 3, 2, 4, seed=1), integers(4, seed=2))),
    (Conv(padding="same", groups=2, data_format="NCHW"), (integers(4, 5, 3, 1, seed=1),)),
    (ConvTranspose(stride=2), (integers(3, 3, 5, 2, seed=1), None)),
    (MaxPool(kernel_size=3, stride=2, ceil_mode=True), ()),
    (AvgPool(output_size=3), ()),
    (LpPool(kernel_size=2), ()),
    (Unfold(kernel_size=2), ()),
]


@pytest.mark.parametrize(("op", "operands"), LAYERS, ids=lambda value: type(value).__name__)
def test_forward_and_backward(op: Any, operands: tuple[Any, ...]) -> None:
    images = integers(IMAGES, 10, 9, 2) if not isinstance(op, ConvTranspose) else integers(IMAGES, 5, 4, 2)
    expected = op.forward(images, *operands)
    gradient = 36 * integers(*expected.shape, seed=3)
    rows = dataset(input=images, grad_output=gradient)
    computed = columns_of(backward(op, forward(op, rows, *operands, batch_size=5), *operands, batch_size=4))
    for name, whole in (
        ("output", expected),
        ("grad_input", grad_input(op.backward(gradient, images, *operands))),
    ):
        assert computed[name].dtype == whole.dtype
        np.testing.assert_array_equal(computed[name], whole)
    np.testing.assert_array_equal(computed["input"], images)


def grad_input(gradients: Any) -> Any:
    return gradients if isinstance(gradients, np.ndarray) else gradients.grad_input


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_gradients_that_are_sums_over_all_images(dtype: str, *, transposed: bool) -> None:
    op = ConvTranspose(stride=2) if transposed else Conv(stride=2, padding=2, padding_mode="circular")
    images, weight = integers(IMAGES, 6, 5, 2, dtype=dtype), integers(3, 3, 2, 2, seed=1, dtype=dtype)
    gradient = integers(*op.output_shape(images.shape, weight.shape), seed=3, dtype=dtype)
    expected = op.backward(gradient, images, weight, wrt=("weight", "bias"))
    (row,) = backward_sums(op, dataset(input=images, grad_output=gradient), weight, batch_size=4).take_all()
    assert set(row) == {"grad_weight", "grad_bias"}
    for name, summed in row.items():
        assert summed.dtype == np.float64
        np.testing.assert_array_equal(summed.astype(dtype), getattr(expected, name))


def test_indices_go_from_column_to_column() -> None:
    images = np.random.default_rng(0).permutation(IMAGES * 6 * 4 * 3).reshape(IMAGES, 6, 4, 3).astype("float64")
    pool = MaxPool(kernel_size=2, return_indices=True, index_scheme="image")
    unpool = MaxUnpool(kernel_size=2, index_scheme="image")
    pooled = forward(pool, dataset(input=images), output="values", indices="positions", batch_size=4)
    unpooled = columns_of(forward(unpool, pooled, input="values", indices="positions", batch_size=5))
    expected = pool.forward(images)
    np.testing.assert_array_equal(unpooled["positions"], expected.indices)
    np.testing.assert_array_equal(unpooled["output"], unpool.forward(*expected))


def test_integers_of_eight_bits() -> None:
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 5, 5, 2), dtype=np.uint8)
    operands = (np.full((3, 3, 2, 1), -3, np.int8), np.uint8(7), np.int8(1))
    computed = columns_of(forward(ConvInteger(padding=1), dataset(input=images), *operands, batch_size=7))
    assert computed["output"].dtype == np.int32
    np.testing.assert_array_equal(computed["output"], ConvInteger(padding=1).forward(images, *operands))


def test_nothing_is_computed_before_it_is_asked_for(tmp_path: Path) -> None:
    def noted(batch: dict[str, Any]) -> dict[str, Any]:
        (tmp_path / uuid.uuid4().hex).touch()
        return batch

    images = integers(IMAGES, 5, 5, 2)
    rows = dataset(input=images, grad_output=images).map_batches(noted, batch_size=None)
    weight = integers(3, 3, 2, 2)
    op = Conv(padding=1)
    lazy = [forward(op, rows, weight), backward(op, rows, weight), backward_sums(op, rows, weight)]
    assert not any(tmp_path.iterdir())
    for computed in lazy:
        computed.materialize()
    assert any(tmp_path.iterdir())


def test_tasks_are_named_by_what_they_compute() -> None:
    """As dashboards and statistics show them."""
    computed = forward(MaxPool(kernel_size=2), dataset(input=integers(IMAGES, 4, 4, 1))).materialize()
    assert "MaxPool.forward" in computed.stats()


def test_what_cannot_be_is_refused_when_it_is_asked_for() -> None:
    rows = dataset(input=integers(IMAGES, 4, 4, 1))
    with pytest.raises(ParameterError, match=r"index_scheme must be plane or image.*how many images come before"):
        forward(MaxPool(kernel_size=2, return_indices=True, framework="onnx"), rows)
    with pytest.raises(ParameterError, match="index_scheme must be plane or image"):
        backward(MaxUnpool(kernel_size=2, index_scheme="tensor"), rows)
    with pytest.raises(TypeError, match="ConvInteger has no gradient with respect to input"):
        backward(ConvInteger(), rows, np.ones((1, 1, 1, 1), np.int8))
    with pytest.raises(TypeError, match="MaxPool has no gradient with respect to weight"):
        backward_sums(MaxPool(kernel_size=2), rows)
    with pytest.raises(TypeError, match="Conv needs the operand weight"):
        forward(Conv(), rows)
    with pytest.raises(TypeError, match="MaxPool takes the operands input; got 2"):
        forward(MaxPool(kernel_size=2), rows, np.ones(3))


def test_what_is_wrong_with_rows_is_said_when_they_are_computed() -> None:
    images = [{"input": np.ones((size, 4, 1))} for size in (3, 4, 5)]
    with pytest.raises(Exception, match=r"input must have images of one shape.*resize them"):
        forward(MaxPool(kernel_size=2), ray.data.from_items(images, override_num_blocks=1)).take_all()
    with pytest.raises(Exception, match="image must be a column of the dataset; got the columns input, number"):
        forward(MaxPool(kernel_size=2), dataset(input=integers(IMAGES, 4, 4, 1)), input="image").take_all()


def test_the_example_in_the_docs(capsys: pytest.CaptureFixture[str]) -> None:
    code, output = example("Ray Data")
    exec(code, {})
    assert capsys.readouterr().out == output


def test_without_ray_the_error_says_what_to_install() -> None:
    script = "import sys; sys.modules['ray'] = None; import convpool.arrays.ray"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "pip install 'convpool[ray]'" in ended.stderr.splitlines()[-1]
