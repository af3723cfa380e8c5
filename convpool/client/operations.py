"""The calls: one method for each operation of the service, written once for both clients."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar, overload

from numpy.typing import ArrayLike

from cnn_core import ConvGradients, MaxPoolResult

from ..cases import Cases, results_by_name
from .reports import LayerShape, Report
from .wire import JSON, NPZ, Call, json_call, read_array, read_gradients, read_pooled, tensors_call

__all__ = ["CASES_FORMATS", "OPERANDS", "Operations"]

ArrayT = TypeVar("ArrayT")
GradientsT = TypeVar("GradientsT")
MaxPoolT = TypeVar("MaxPoolT")
ShapeT = TypeVar("ShapeT")
CasesT = TypeVar("CasesT")
ReportT = TypeVar("ReportT")
BytesT = TypeVar("BytesT")

CASES_FORMATS = {
    "npz": NPZ,
    "safetensors": "application/vnd.safetensors",
    "json": JSON,
    "jsonl": "application/jsonl",
}
"""The formats of golden cases, and their media types."""


class Operations(ABC, Generic[ArrayT, GradientsT, MaxPoolT, ShapeT, CasesT, ReportT, BytesT]):
    """The calls of the service.

    Operands are arrays, or what ``numpy.asarray`` makes arrays of; parameters are keywords, as GET /ops lists them.
    What each method returns, the synchronous client returns at once, and the asynchronous one when it is awaited.
    """

    @abstractmethod
    def _call(self, call: Call) -> Any:
        """Send a call, and return its result."""

    def conv_forward(
        self, input: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, **parameters: Any
    ) -> ArrayT:
        """Compute a convolution.

        Parameters
        ----------
        input : array_like
            (N, *spatial, C), or (N, C, *spatial) with ``data_format="channels_first"``.
        weight : array_like
            (*kernel, C/groups, C_out), or (C_out, C/groups, *kernel).
        bias : array_like, optional
            (C_out,).
        **parameters
            Such as ``stride``, ``padding``, ``dilation``, ``groups``, ``framework``.

        Returns
        -------
        ndarray
            Of the operands' common floating type.
        """
        return self._operation("conv/forward", parameters, input=input, weight=weight, bias=bias)

    def conv_backward(
        self,
        grad_output: ArrayLike,
        input: ArrayLike,
        weight: ArrayLike,
        bias: ArrayLike | None = None,
        **parameters: Any,
    ) -> GradientsT:
        """Compute the gradients of a convolution.

        Parameters
        ----------
        grad_output : array_like
            Gradient with respect to the output.
        input, weight, bias : array_like
            Those of ``conv_forward``.
        **parameters
            Those of ``conv_forward``, and ``wrt``: the operands whose gradients are wanted.

        Returns
        -------
        ConvGradients
            ``grad_input``, ``grad_weight`` and ``grad_bias``; None for those that are not wanted.
        """
        return self._gradients(
            "conv/backward", parameters, grad_output=grad_output, input=input, weight=weight, bias=bias
        )

    def conv_transpose_forward(
        self, input: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, **parameters: Any
    ) -> ArrayT:
        """Compute a transposed convolution; the weight is that of the convolution that it transposes."""
        return self._operation("conv_transpose/forward", parameters, input=input, weight=weight, bias=bias)

    def conv_transpose_backward(
        self,
        grad_output: ArrayLike,
        input: ArrayLike,
        weight: ArrayLike,
        bias: ArrayLike | None = None,
        **parameters: Any,
    ) -> GradientsT:
        """Compute the gradients of a transposed convolution, as ``conv_backward`` does."""
        return self._gradients(
            "conv_transpose/backward", parameters, grad_output=grad_output, input=input, weight=weight, bias=bias
        )

    @overload
    def pool_forward(self, input: ArrayLike, *, return_indices: Literal[True], **parameters: Any) -> MaxPoolT: ...
    @overload
    def pool_forward(self, input: ArrayLike, **parameters: Any) -> ArrayT: ...
    def pool_forward(self, input: ArrayLike, **parameters: Any) -> Any:
        """Compute a pooling layer: ``mode`` is max, avg or lp.

        Returns
        -------
        ndarray or MaxPoolResult
            The latter, ``output`` and ``indices``, with ``return_indices=True``.
        """
        return self._call(tensors_call("pool/forward", {"input": input}, parameters, NPZ, read_pooled))

    def pool_backward(self, grad_output: ArrayLike, input: ArrayLike, **parameters: Any) -> ArrayT:
        """Compute the gradient of a pooling layer with respect to its input."""
        return self._operation("pool/backward", parameters, grad_output=grad_output, input=input)

    def unpool_forward(self, input: ArrayLike, indices: ArrayLike, **parameters: Any) -> ArrayT:
        """Put maxima back to where their indices say."""
        return self._operation("unpool/forward", parameters, input=input, indices=indices)

    def unpool_backward(
        self, grad_output: ArrayLike, input: ArrayLike, indices: ArrayLike, **parameters: Any
    ) -> ArrayT:
        """Compute the gradient of ``unpool_forward`` with respect to its input."""
        return self._operation("unpool/backward", parameters, grad_output=grad_output, input=input, indices=indices)

    def unfold_forward(self, input: ArrayLike, **parameters: Any) -> ArrayT:
        """Return the patches of an input as a matrix (im2col)."""
        return self._operation("unfold/forward", parameters, input=input)

    def unfold_backward(self, grad_output: ArrayLike, input: ArrayLike, **parameters: Any) -> ArrayT:
        """Compute the gradient of ``unfold_forward`` with respect to its input."""
        return self._operation("unfold/backward", parameters, grad_output=grad_output, input=input)

    def fold_forward(self, input: ArrayLike, **parameters: Any) -> ArrayT:
        """Sum patches where they overlap (col2im)."""
        return self._operation("fold/forward", parameters, input=input)

    def fold_backward(self, grad_output: ArrayLike, input: ArrayLike, **parameters: Any) -> ArrayT:
        """Compute the gradient of ``fold_forward`` with respect to its input."""
        return self._operation("fold/backward", parameters, grad_output=grad_output, input=input)

    def conv_integer_forward(
        self,
        input: ArrayLike,
        weight: ArrayLike,
        input_zero_point: ArrayLike | None = None,
        weight_zero_point: ArrayLike | None = None,
        **parameters: Any,
    ) -> ArrayT:
        """Compute ONNX's ConvInteger: operands of int8 or uint8, an output of int32."""
        return self._operation(
            "conv_integer/forward",
            parameters,
            input=input,
            weight=weight,
            input_zero_point=input_zero_point,
            weight_zero_point=weight_zero_point,
        )

    def qlinear_conv_forward(
        self,
        input: ArrayLike,
        input_scale: ArrayLike,
        input_zero_point: ArrayLike,
        weight: ArrayLike,
        weight_scale: ArrayLike,
        weight_zero_point: ArrayLike,
        output_scale: ArrayLike,
        output_zero_point: ArrayLike,
        bias: ArrayLike | None = None,
        **parameters: Any,
    ) -> ArrayT:
        """Compute ONNX's QLinearConv; the output has the type of ``output_zero_point``."""
        return self._operation(
            "qlinear_conv/forward",
            parameters,
            input=input,
            input_scale=input_scale,
            input_zero_point=input_zero_point,
            weight=weight,
            weight_scale=weight_scale,
            weight_zero_point=weight_zero_point,
            output_scale=output_scale,
            output_zero_point=output_zero_point,
            bias=bias,
        )

    def shape(
        self, layer: str, shapes: Mapping[str, Sequence[int]], *, dtype: str | None = None, **parameters: Any
    ) -> ShapeT:
        """Return what a layer does to operands of given shapes, without computing it.

        Parameters
        ----------
        layer : str
            Such as ``conv``.
        shapes : mapping of str to sequence of int
            The shape of each operand of forward: ``{"input": (1, 28, 28, 3), "weight": (3, 3, 3, 8)}``.
        dtype : str, optional
            The type of the operands, for the number of bytes.
        **parameters
            Those of the layer.

        Returns
        -------
        LayerShape
        """
        members = {**parameters, "shapes": {name: list(sizes) for name, sizes in shapes.items()}, "dtype": dtype}
        result: ShapeT = self._call(json_call(f"{layer}/shape", members, JSON, LayerShape.read))
        return result

    def check(
        self,
        layer: str,
        operands: Mapping[str, ArrayLike | None],
        claimed: Mapping[str, ArrayLike | None] | ConvGradients | MaxPoolResult | ArrayLike,
        *,
        accumulation: str | None = None,
        **parameters: Any,
    ) -> ReportT:
        """Compare what you computed with what is right and, if it differs, be told which mistake it looks like.

        Parameters
        ----------
        layer : str
            Such as ``conv``.
        operands : mapping of str to array_like
            Those of forward, and ``grad_output`` if a gradient is claimed.
        claimed : mapping of str to array_like, ConvGradients, MaxPoolResult or array_like
            What you computed: ``output``, ``indices``, ``grad_input``, ``grad_weight``, ``grad_bias``; at least one. An
            array is the output.
        accumulation : str, optional
            The type that your sums are computed in, if it is not that of the claimed tensor.
        **parameters
            Those of the layer.

        Returns
        -------
        Report
        """
        results = results_by_name(claimed, ["output"])
        tensors = {**operands, **{f"claimed_{name}": tensor for name, tensor in results.items()}}
        call = tensors_call(f"{layer}/check", tensors, {**parameters, "accumulation": accumulation}, JSON, Report.read)
        result: ReportT = self._call(call)
        return result

    def cases(
        self,
        layer: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        shapes: Mapping[str, Sequence[Any]] | None = None,
        dtype: str | None = None,
        kind: str | None = None,
        directions: Sequence[str] | None = None,
        count: int | None = None,
        seed: int | None = None,
    ) -> CasesT:
        """Return golden cases of a layer: operands, parameters and the results that are right.

        Parameters
        ----------
        layer : str
            Such as ``conv``.
        parameters : mapping of str to object, optional
            For each a value, a list of values to draw from, or ``"any"``.
        shapes : mapping of str to sequence, optional
            For each operand its sizes: integers, ranges ``[low, high]``, or None.
        dtype : str, optional
        kind : str, optional
            ``"random"``, ``"integers"`` (whose results are exact) or ``"edges"`` (the corners where ports break).
        directions : sequence of str, optional
            Out of ``"forward"`` and ``"backward"``.
        count, seed : int, optional
            How many cases, and which: the same seed gives the same cases.

        Returns
        -------
        Cases
        """
        options = {
            "parameters": parameters,
            "shapes": shapes,
            "dtype": dtype,
            "kind": kind,
            "directions": directions,
            "count": count,
            "seed": seed,
        }
        result: CasesT = self._call(json_call(f"{layer}/cases", options, NPZ, Cases))
        return result

    def cases_file(self, layer: str, format: str = "npz", **options: Any) -> BytesT:
        """Return golden cases as the bytes of a file.

        Parameters
        ----------
        layer : str
        format : str
            ``"npz"``, ``"safetensors"``, ``"json"`` or ``"jsonl"``.
        **options
            Those of ``cases``.

        Returns
        -------
        bytes
        """
        if format not in CASES_FORMATS:
            raise ValueError(f"format must be one of {', '.join(CASES_FORMATS)}; got {format!r}")
        result: BytesT = self._call(json_call(f"{layer}/cases", options, CASES_FORMATS[format], bytes))
        return result

    def _named(self, name: str) -> Any:
        """Return the method of a call by its name, such as ``conv_forward`` or ``check``."""
        if name not in CALLS:
            raise ValueError(f"a call is one of {', '.join(CALLS)}; got {name!r}")
        return getattr(self, name)

    def _operation(self, path: str, parameters: Mapping[str, Any], **operands: ArrayLike | None) -> ArrayT:
        result: ArrayT = self._call(tensors_call(path, operands, parameters, NPZ, read_array))
        return result

    def _gradients(self, path: str, parameters: Mapping[str, Any], **operands: ArrayLike | None) -> GradientsT:
        result: GradientsT = self._call(tensors_call(path, operands, parameters, NPZ, read_gradients))
        return result


CALLS = tuple(name for name in vars(Operations) if not name.startswith("_"))
"""The names of all calls."""

OPERANDS = {
    name: {
        parameter.name: parameter.default is parameter.empty
        for parameter in inspect.signature(getattr(Operations, name)).parameters.values()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.name != "self"
    }
    for name in CALLS
    if name.endswith(("_forward", "_backward"))
}
"""For each operation, its operands in their order, and whether each is required."""
