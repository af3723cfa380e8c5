"""What the page "Where frameworks disagree" says of the frameworks, found by running them; convpool takes no part.

The facts are those of PyTorch 2.13.0, TensorFlow 2.21.0, Keras 3.15.1, JAX 0.12.0.1, flax 0.12.12, onnx 1.23.2 and
onnxruntime 1.32.0 on an x86 CPU. The tests of a framework that is not installed are skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.filterwarnings("ignore")  # those of the frameworks

NAN, INF = float("nan"), float("inf")
LOWEST = float(np.finfo(np.float32).min)
KERNEL = [1.0, 2.0, 3.0]
THREE = [1.0, 10.0, 100.0]  # with KERNEL and stride 2 the full transposed convolution is TRANSPOSED
TRANSPOSED = [1.0, 2.0, 13.0, 20.0, 130.0, 200.0, 300.0]


def same(actual: Any, expected: Any) -> None:
    """Assert that the elements, in row-major order, are the expected ones; NaN equals NaN."""
    elements = np.asarray(actual.detach() if hasattr(actual, "detach") else actual, dtype=np.float64).ravel()
    np.testing.assert_allclose(elements, np.ravel(expected), rtol=1e-6)


def counting(*shape: int) -> np.ndarray:
    return np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)


class TestTorch:
    @pytest.fixture(autouse=True)
    def _import(self) -> None:
        self.torch = pytest.importorskip("torch")
        self.f = self.torch.nn.functional

    def t(self, values: Any, *shape: int, dtype: str = "float32") -> Any:
        tensor = self.torch.tensor(np.asarray(values), dtype=getattr(self.torch, dtype))
        return tensor.reshape(shape) if shape else tensor

    def gradient(self, function: Callable[[Any], Any], operand: Any) -> Any:
        operand = operand.clone().requires_grad_()
        function(operand).sum().backward()
        return operand.grad

    def test_kernel_is_not_flipped(self) -> None:
        same(self.f.conv1d(self.t([1, 2, 3], 1, 1, 3), self.t([1, 10], 1, 1, 2)), [21, 32])

    def test_window_larger_than_the_input(self) -> None:
        with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
            self.f.conv1d(self.t([1, 2, 3], 1, 1, 3), self.torch.ones(1, 1, 5))
        with pytest.raises(RuntimeError, match="Output size is too small"):
            self.f.max_pool2d(self.torch.ones(1, 1, 3, 3), 5)
        same(self.f.max_pool1d(self.t([1, 2, 3], 1, 1, 3), 4, stride=2, ceil_mode=True), [3])

    def test_same_padding(self) -> None:
        ones = self.torch.ones(1, 1, 4)
        same(self.f.conv1d(self.t([1, 2, 3, 4], 1, 1, 4), ones, padding="same"), [6, 10, 9, 7])
        with pytest.raises(RuntimeError, match="not supported for strided"):
            self.f.conv1d(ones, ones, padding="same", stride=2)
        layer = self.torch.nn.ConvTranspose1d(1, 1, 2, padding="same")  # accepted here, refused at the first call
        with pytest.raises(TypeError):
            layer(ones)

    def test_layout_of_weights(self) -> None:
        assert self.torch.nn.Conv2d(4, 6, 3, groups=2).weight.shape == (6, 2, 3, 3)
        assert self.torch.nn.ConvTranspose2d(4, 6, 3, groups=2).weight.shape == (4, 3, 3, 3)

    def test_default_pooling_stride(self) -> None:
        same(self.f.max_pool1d(self.t(range(1, 7), 1, 1, 6), 3), [3, 6])

    def test_padding_of_more_than_half_a_window(self) -> None:
        with pytest.raises(RuntimeError, match="at most half"):
            self.f.max_pool1d(self.torch.ones(1, 1, 3), 2, padding=2)

    def test_ceil_mode_drops_a_window_that_starts_past_the_input(self) -> None:
        for n, k, s, p, outputs in (3, 1, 3, 0, 1), (4, 2, 5, 1, 1), (4, 2, 4, 1, 2):
            assert self.f.max_pool1d(self.torch.ones(1, 1, n), k, s, p, ceil_mode=True).shape[-1] == outputs

    def test_average_divisor(self) -> None:
        two, four = self.t([1, 2], 1, 1, 2), self.t([1, 2, 3, 4], 1, 1, 4)
        same(self.f.avg_pool1d(two, 2, 1, 1), [0.5, 1.5, 1])  # padding counts by default
        same(self.f.avg_pool1d(two, 2, 1, 1, count_include_pad=False), [1, 1.5, 2])
        same(self.f.avg_pool1d(four, 3, 2, ceil_mode=True), [2, 3.5])  # the overhang never does
        same(self.f.avg_pool1d(four, 3, 2, 1, ceil_mode=True), [1, 3, 2])

    def test_divisor_override(self) -> None:
        square = self.t([1, 2, 3, 4], 1, 1, 2, 2)
        same(self.f.avg_pool2d(square, 2, divisor_override=-2), [-5])
        with pytest.raises(RuntimeError, match="not zero"):
            self.f.avg_pool2d(square, 2, divisor_override=0)
        with pytest.raises(TypeError):
            self.f.avg_pool2d(square, 2, divisor_override=1.5)

    def test_max_window_in_the_padding(self) -> None:
        operand = self.t([-1, -2], 1, 1, 1, 2)
        same(self.f.max_pool2d(operand, (1, 2), 1, (0, 1)), [-1, -1, -2])
        output, index = self.f.max_pool2d(operand, (1, 2), 1, (0, 1), (1, 3), return_indices=True)
        assert (output.item(), index.item()) == (-INF, 2)  # the plane has the indices 0 and 1

    def test_nan_in_max(self) -> None:
        operand = self.t([NAN, 1, NAN, 2], 1, 1, 4)
        output, index = self.f.max_pool1d(operand, 4, return_indices=True)
        assert (np.isnan(output.item()), index.item()) == (True, 2)
        same(self.gradient(lambda x: self.f.max_pool1d(x, 4), operand), [0, 0, 1, 0])

    def test_ties(self) -> None:
        same(self.gradient(lambda x: self.f.max_pool2d(x, 2), self.torch.ones(1, 1, 2, 2)), [1, 0, 0, 0])
        same(self.gradient(lambda x: self.f.max_pool3d(x, 2), self.torch.ones(1, 1, 2, 2, 2)), [1, *[0] * 7])
        same(self.gradient(lambda x: x.amax((2, 3)), self.torch.ones(1, 1, 2, 2)), [0.25] * 4)

    def test_index_counts_in_the_plane(self) -> None:
        same(self.f.max_pool2d(self.t(counting(2, 2, 2, 2)), 2, return_indices=True)[1], [3, 3, 3, 3])

    def test_windows_of_minus_infinity(self) -> None:
        operand = self.torch.full((1, 1, 2, 2), -INF)
        output, index = self.f.max_pool2d(operand, 2, 2, 1, return_indices=True)
        same(output, [-INF] * 4)
        same(index, [0, 1, 2, 3])
        same(self.gradient(lambda x: self.f.max_pool2d(x, 2, 2, 1), operand), [1] * 4)

    def test_sign_of_a_zero_maximum(self) -> None:
        assert np.signbit(self.f.max_pool1d(self.t([-0.0, 0.0], 1, 1, 2), 2).item())

    def test_max_unpool_size_and_indices(self) -> None:
        operand, index = self.t([5, 6, 7, 8], 1, 1, 2, 2), self.t([5, 7, 13, 15], 1, 1, 2, 2, dtype="int64")
        assert np.flatnonzero(self.f.max_unpool2d(operand, index, 2)).tolist() == [5, 7, 13, 15]
        larger = self.f.max_unpool2d(operand, index, 2, output_size=(5, 5))
        assert np.flatnonzero(larger).tolist() == [5, 7, 13, 15]  # they count in the larger plane
        assert self.f.max_unpool2d(operand, index % 9, 2, output_size=(3, 3)).shape == (1, 1, 3, 3)
        with pytest.raises(ValueError, match="must be between 2 and 6"):
            self.f.max_unpool2d(operand, index, 2, output_size=(6, 6))
        with pytest.raises(RuntimeError, match="invalid max index"):
            self.f.max_unpool2d(operand, index + 1, 2)

    def test_max_unpool_duplicates(self) -> None:
        operand, index = self.t([5, 6, 7, 8], 1, 1, 2, 2), self.t([5, 5, 5, 0], 1, 1, 2, 2, dtype="int64")
        assert self.f.max_unpool2d(operand, index, 2)[0, 0, 1, 1].item() in {5, 6, 7}  # of several threads' values
        same(self.gradient(lambda x: self.f.max_unpool2d(x, index, 2), operand), [1] * 4)  # each gets one

    def test_conv_transpose_size_and_output_padding(self) -> None:
        x, w = self.t(THREE, 1, 1, 3), self.t(KERNEL, 1, 1, 3)
        same(self.f.conv_transpose1d(x, w, stride=2), TRANSPOSED)
        same(self.f.conv_transpose1d(x, w, stride=2, padding=1, output_padding=1), TRANSPOSED[1:])  # 300 is computed
        assert self.f.conv_transpose1d(x, w, dilation=3, output_padding=2).shape[-1] == 11
        assert self.f.conv_transpose1d(x, w, stride=5).shape[-1] == 13
        with pytest.raises(RuntimeError, match="smaller than either stride or dilation"):
            self.f.conv_transpose1d(x, w, stride=2, output_padding=2)

    def test_conv_transpose_output_size(self) -> None:
        layer = self.torch.nn.ConvTranspose1d(1, 1, 3, stride=1, dilation=3)  # output_padding=2 would be allowed
        with pytest.raises(ValueError, match=r"from \[9\] to \[9\]"):
            layer(self.torch.ones(1, 1, 3), output_size=[10])

    def test_bias_where_no_window_reaches(self) -> None:
        one = self.torch.ones(1, 1, 1)
        same(self.f.conv_transpose1d(self.torch.ones(1, 1, 2), one, 9 * one[0, 0], stride=3), [10, 9, 9, 10])

    def test_limits_of_the_padding_modes(self) -> None:
        x = self.t([1, 2, 3], 1, 1, 3)
        same(self.f.pad(x, (2, 0), mode="reflect"), [3, 2, 1, 2, 3])
        same(self.f.pad(x, (3, 0), mode="circular"), [1, 2, 3, 1, 2, 3])
        same(self.f.pad(x, (5, 0), mode="replicate"), [1, 1, 1, 1, 1, 1, 2, 3])
        for mode, amount in (("reflect", 3), ("circular", 4)):
            with pytest.raises(RuntimeError):
                self.f.pad(x, (amount, 0), mode=mode)

    def test_lp_pool(self) -> None:
        mixed, all_negative = self.t([-1, 2], 1, 1, 2), self.t([-2, 1], 1, 1, 2)
        same(self.f.lp_pool1d(mixed, 1, 2), [1])  # 3 by the absolute values
        same(self.f.lp_pool1d(mixed, 3, 2), [7 ** (1 / 3)])  # 9 ** (1 / 3)
        same(self.f.lp_pool1d(all_negative, 3, 2), [NAN])
        same(self.f.lp_pool1d(mixed, 2.5, 2), [NAN])
        same(self.f.lp_pool1d(self.t([3, 4, 5, 12, 8], 1, 1, 5), 2, 2, ceil_mode=True), [5, 13, 8 * 2**0.5])  # not 8
        same(self.f.lp_pool1d(self.t([3e30, 4e30], 1, 1, 2), 2, 2), [INF])  # 5e30
        for p in (1, 2, 3):
            same(self.gradient(lambda x, p=p: self.f.lp_pool1d(x, p, 2), self.torch.zeros(1, 1, 2)), [0, 0])

    def test_adaptive_windows(self) -> None:
        same(self.f.adaptive_avg_pool1d(self.t(range(1, 6), 1, 1, 5), 3), [1.5, 3, 4.5])
        same(self.f.adaptive_avg_pool1d(self.t([1, 2, 3], 1, 1, 3), 5), [1, 1.5, 2, 2.5, 3])

    def test_float16_average(self) -> None:
        same(self.f.avg_pool1d(self.torch.full((1, 1, 512), 1000.0, dtype=self.torch.float16), 512), [1000])

    def test_rows_of_unfold(self) -> None:
        x = self.t(counting(1, 2, 2, 2))
        same(self.f.unfold(x, (1, 2)), [1, 3, 2, 4, 5, 7, 6, 8])  # channel, then kernel position
        with pytest.raises(RuntimeError):
            self.f.unfold(x[..., None], 2)

    def test_empty_batch(self) -> None:
        assert self.f.conv1d(self.torch.ones(0, 1, 3), self.torch.ones(1, 1, 2)).shape == (0, 1, 2)
        assert self.f.max_pool2d(self.torch.ones(0, 1, 3, 3), 2).shape == (0, 1, 1, 1)

    def test_gradient_of_the_uncovered_tail(self) -> None:
        one = self.torch.ones(1, 1, 2)
        same(self.gradient(lambda x: self.f.conv1d(x, one, stride=2), self.torch.ones(1, 1, 5)), [1, 1, 1, 1, 0])

    def test_integers_and_promotion(self) -> None:
        output = self.f.avg_pool2d(self.t([0, 1, 2, 3], 1, 1, 2, 2, dtype="int64"), 2)
        assert (output.item(), output.dtype) == (1, self.torch.int64)  # of 1.5
        with pytest.raises(RuntimeError):
            self.f.conv1d(self.torch.ones(1, 1, 3), self.torch.ones(1, 1, 2, dtype=self.torch.float64))


class TestTensorFlow:
    @pytest.fixture(autouse=True)
    def _import(self) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        self.tf = pytest.importorskip("tensorflow")
        self.layers = self.tf.keras.layers

    def t(self, values: Any, *shape: int, dtype: str = "float32") -> Any:
        return self.tf.constant(np.asarray(values, dtype=dtype).reshape(shape or np.shape(values)))

    def gradient(self, function: Callable[[Any], Any], operand: Any) -> Any:
        with self.tf.GradientTape() as tape:
            tape.watch(operand)
            output = function(operand)
        return tape.gradient(output, operand)

    def max2d(self, operand: Any) -> Any:
        return self.tf.nn.max_pool2d(operand, operand.shape[1:3], 1, "VALID")

    def test_window_larger_than_the_input_ends_the_process(self) -> None:
        call = "import tensorflow as tf; tf.nn.max_pool1d(tf.ones((1, 3, 1)), 4, 1, 'VALID')"  # by oneDNN
        assert subprocess.run([sys.executable, "-c", call], capture_output=True, check=False).returncode < 0

    def test_same_padding(self) -> None:
        kernel = self.t([1, 10, 100], 3, 1, 1)
        same(self.tf.nn.conv1d(self.t([1, 2, 3, 4], 1, 4, 1), kernel, 2, "SAME"), [321, 43])
        same(self.tf.nn.avg_pool1d(self.t(range(1, 6), 1, 5, 1), 1, 3, "SAME"), [1, 4])  # k < s
        same(self.tf.nn.avg_pool1d(self.t([1, 2, 3], 1, 3, 1), 2, 1, "SAME"), [1.5, 2.5, 3])  # padding does not count

    def test_default_pooling_stride(self) -> None:
        same(self.layers.MaxPooling1D(3)(self.t(range(1, 7), 1, 6, 1)), [3, 6])

    def test_nan_in_max(self) -> None:
        for values, output, gradient in ([NAN, 1, 2], 2, [1, 0, 0]), ([1, 2, NAN], 2, [0, 1, 0]), ([NAN], LOWEST, [1]):
            operand = self.t(values, 1, 1, len(values), 1)
            same(self.max2d(operand), [output])
            same(self.gradient(self.max2d, operand), gradient)
        same(self.tf.nn.max_pool_with_argmax(self.t([NAN, 1, 2], 1, 1, 3, 1), (1, 3), 1, "VALID")[0], [NAN])

    def test_ties(self) -> None:
        same(self.gradient(self.max2d, self.tf.ones((1, 2, 2, 1))), [1, 0, 0, 0])
        same(self.gradient(self.layers.MaxPooling3D(2), self.tf.ones((1, 2, 2, 2, 1))), [1] * 8)
        same(self.gradient(self.layers.GlobalMaxPooling2D(), self.tf.ones((1, 2, 2, 1))), [0.25] * 4)

    def test_index_counts_in_the_image(self) -> None:
        operand = self.t(counting(2, 2, 2, 2))
        same(self.tf.nn.max_pool_with_argmax(operand, 2, 2, "VALID")[1], [6, 7, 6, 7])
        same(self.tf.nn.max_pool_with_argmax(operand, 2, 2, "VALID", include_batch_in_index=True)[1], [6, 7, 14, 15])

    def test_windows_of_minus_infinity(self) -> None:
        operand = self.tf.fill((1, 2, 2, 1), -INF)
        same(self.max2d(operand), [LOWEST])
        same(self.tf.nn.max_pool_with_argmax(operand, 2, 2, "VALID")[0], [-INF])

    def test_conv_transpose_sizes(self) -> None:
        x, w = self.t(THREE, 1, 3, 1), self.t(KERNEL, 3, 1, 1)
        for padding, result in ("VALID", [*TRANSPOSED, 0]), ("SAME", TRANSPOSED[:6]), ("SAME", TRANSPOSED[1:6]):
            same(self.tf.nn.conv1d_transpose(x, w, (1, len(result), 1), 2, padding), result)

    def test_conv_transpose_of_keras(self) -> None:
        three = self.t(THREE, 1, 3, 1)
        for padding in ("valid", "same"):
            assert self.layers.Conv1DTranspose(1, 3, 5, padding)(three).shape[1] == 15  # PyTorch's and ONNX's is 13
        with pytest.raises(ValueError, match="strictly less than `strides`"):
            self.layers.Conv1DTranspose(1, 3, 2, output_padding=2)(three)

    def test_adaptive_windows(self) -> None:
        same(self.layers.AdaptiveAveragePooling1D(3)(self.t(range(1, 6), 1, 5, 1)), [1.5, 3, 4.5])

    def test_float16_average(self) -> None:
        same(self.tf.nn.avg_pool1d(self.t([1000] * 512, 1, 512, 1, dtype="float16"), 512, 512, "VALID"), [INF])

    def test_channels_of_patches(self) -> None:
        ones = (1, 1, 1, 1)
        patches = self.tf.image.extract_patches(self.t(counting(1, 2, 2, 2)), (1, 1, 2, 1), ones, ones, "VALID")
        same(patches, range(1, 9))  # kernel position, then channel

    def test_float64_becomes_float32_in_keras(self) -> None:
        assert self.layers.MaxPooling1D(2)(self.t([1, 2], 1, 2, 1, dtype="float64")).dtype == "float32"


class TestJax:
    @pytest.fixture(autouse=True)
    def _import(self) -> None:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        self.jax = pytest.importorskip("jax")
        self.linen = pytest.importorskip("flax.linen")

    def gradient(self, values: list[float], padding: Any = "VALID", stride: int = 1) -> Any:
        operand = np.asarray(values, np.float32).reshape(1, -1, 1)
        size = (len(values),) if padding == "VALID" else (2,)
        return self.jax.grad(lambda x: self.linen.max_pool(x, size, (stride,), padding).sum())(operand)

    def transposed(self, stride: int, padding: Any, kernel: list[float] = KERNEL, **more: Any) -> Any:
        x, w = np.array([[THREE]], np.float32), np.array([[kernel]], np.float32)
        names = ("NCH", "OIH", "NCH")
        return self.jax.lax.conv_transpose(x, w, (stride,), padding, dimension_numbers=names, **more)

    def test_pooling(self) -> None:
        assert self.linen.max_pool(counting(1, 3, 1), (5,)).shape == (1, 0, 1)
        same(self.linen.max_pool(counting(1, 6, 1), (3,)), [3, 4, 5, 6])
        same(self.linen.avg_pool(counting(1, 3, 1), (2,), padding="SAME"), [1.5, 2.5, 1.5])
        same(self.linen.max_pool(counting(1, 2, 1), (2,), padding=((2, 0),)), [-INF, 1, 2])

    def test_gradient_of_nan_misses_it(self) -> None:
        same(self.gradient([NAN, 2, 1]), [0, 1, 0])
        same(self.gradient([2, 1, NAN]), [0, 0, 1])

    def test_ties_and_minus_infinity(self) -> None:
        same(self.gradient([1, 1]), [1, 0])
        same(self.gradient([-INF, -INF], ((1, 1),), 2), [0, 1])  # the first window's goes to the padding
        assert not np.signbit(self.linen.max_pool(np.array([[[-0.0], [0.0]]], np.float32), (2,)).item())

    def test_conv_transpose(self) -> None:
        same(self.transposed(2, "VALID"), [3, 2, 31, 20, 310, 200, 100])  # the kernel is flipped
        same(self.transposed(2, "VALID", transpose_kernel=True), TRANSPOSED)
        same(self.transposed(2, "SAME", transpose_kernel=True), TRANSPOSED[:6])
        same(self.transposed(2, [(0, 0)], transpose_kernel=True), TRANSPOSED[2:5])  # pads the dilated input
        same(self.transposed(2, [(0, 0)], transpose_kernel=True, use_consistent_padding=True), TRANSPOSED)
        assert self.transposed(5, "VALID").shape[-1] == 15

    def test_padding_modes_repeat(self) -> None:
        for padding in ("CIRCULAR", "REFLECT"):
            layer = self.linen.Conv(1, (9,), padding=padding, use_bias=False)
            assert layer.init_with_output(self.jax.random.key(0), counting(1, 3, 1))[0].shape == (1, 3, 1)

    def test_precision(self) -> None:
        same(self.linen.avg_pool(np.full((1, 512, 1), 1000, np.float16), (512,)), [INF])
        assert self.jax.numpy.asarray(np.ones(1)).dtype == "float32"

    def test_channels_of_patches(self) -> None:
        patches = self.jax.lax.conv_general_dilated_patches
        names = ("NHWC", "HWIO", "NHWC")
        same(patches(counting(1, 2, 2, 2), (1, 2), (1, 1), "VALID", dimension_numbers=names), [1, 3, 2, 4, 5, 7, 6, 8])


class TestOnnxRuntime:
    @pytest.fixture(autouse=True)
    def _import(self) -> None:
        self.helper, self.runtime = pytest.importorskip("onnx.helper"), pytest.importorskip("onnxruntime")

    def run(self, operation: str, *operands: Any, **attributes: Any) -> Any:
        """Run one operator of opset 22; a list becomes float32 of shape (1, 1, n)."""
        arrays = [np.float32([[v]]) if isinstance(v, list) else np.asarray(v) for v in operands]
        feeds = {f"operand_{i}": array for i, array in enumerate(arrays)}
        describe, kind = self.helper.make_tensor_value_info, self.helper.np_dtype_to_tensor_dtype
        inputs = [describe(name, kind(array.dtype), array.shape) for name, array in feeds.items()]
        node = self.helper.make_node(operation, list(feeds), ["output"], **attributes)
        graph = self.helper.make_graph([node], "graph", inputs, [describe("output", kind(arrays[0].dtype), None)])
        model = self.helper.make_model(graph, opset_imports=[self.helper.make_opsetid("", 22)], ir_version=10)
        return self.runtime.InferenceSession(model.SerializeToString()).run(None, feeds)[0]

    def test_pooling_defaults(self) -> None:
        same(self.run("MaxPool", [1, 2, 3, 4], kernel_shape=[2]), [2, 3, 4])
        same(self.run("AveragePool", [1, 2], kernel_shape=[2], pads=[1, 1]), [1, 1.5, 2])

    def test_nan_and_minus_infinity_in_max(self) -> None:
        for values, maximum in ([NAN, 1], 1), ([1, NAN], 1), ([NAN], LOWEST), ([-INF], LOWEST):
            same(self.run("MaxPool", values, kernel_shape=[len(values)]), [maximum])

    def test_max_window_in_the_padding(self) -> None:
        same(self.run("MaxPool", [-1, -2], kernel_shape=[2], pads=[1, 1], dilations=[3]), [LOWEST])

    def test_same_padding_ignores_dilation(self) -> None:
        same(self.run("MaxPool", [1, 2, 3, 4], kernel_shape=[2], auto_pad="SAME_UPPER", dilations=[2]), [3, 4, 3])

    def test_output_shape(self) -> None:
        same(self.run("ConvTranspose", THREE, KERNEL, strides=[2], output_shape=[6]), TRANSPOSED[1:])
        for auto_pad in ("NOTSET", "SAME_UPPER", "SAME_LOWER"):
            larger = self.run("ConvTranspose", THREE, KERNEL, strides=[2], output_shape=[8], auto_pad=auto_pad)
            same(larger, [*TRANSPOSED, 0])
        assert self.run("ConvTranspose", THREE, KERNEL, strides=[4], auto_pad="SAME_UPPER").shape[-1] == 11  # not 12

    def test_lp_pool(self) -> None:
        same(self.run("LpPool", [-2, 1], kernel_shape=[2], p=3), [9 ** (1 / 3)])
        same(self.run("LpPool", [3, 4, 8], kernel_shape=[2], strides=[2], ceil_mode=1), [5, 8])

    def test_unpool_counts_in_the_output_shape(self) -> None:
        operand, index = counting(1, 1, 2, 2), np.array([[[[5, 7], [13, 15]]]])
        output = self.run("MaxUnpool", operand, index, np.array([1, 1, 5, 5]), kernel_shape=[2, 2], strides=[2, 2])
        assert np.flatnonzero(output).tolist() == [5, 7, 13, 15]  # onnx's own node test has 6, 8, 16, 18

    def test_quantised_result_is_rounded_from_float32(self) -> None:
        zero, one, scale = np.int8(0), np.int8([[[1]]]), np.float32(1)  # 5 * float32(0.1) is more than 0.5
        same(self.run("QLinearConv", 5 * one, np.float32(0.1), zero, one, scale, zero, scale, zero), [0])
