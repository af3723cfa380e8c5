"""The layers that the service offers. A further one is an entry here: routes, /ops and the docs derive from it."""

from __future__ import annotations

from cnn_core import AvgPool, Conv, ConvInteger, ConvTranspose, Fold, LpPool, MaxPool, MaxUnpool, QLinearConv, Unfold

from .operation import CatalogueEntry

__all__ = ["CATALOGUE", "OPERATIONS"]

CATALOGUE = (
    CatalogueEntry(
        name="conv",
        title="Convolution",
        ops={"": Conv},
        example={
            "stride": 1,
            "padding": "same",
            "input": [[[[1], [2], [3]], [[4], [5], [6]], [[7], [8], [9]]]],
            "weight": [[[[1]], [[0]]], [[[0]], [[-1]]]],
            "bias": [0.5],
        },
    ),
    CatalogueEntry(
        name="conv_transpose",
        title="Transposed convolution",
        ops={"": ConvTranspose},
        example={
            "stride": 2,
            "input": [[[[1], [2]], [[3], [4]]]],
            "weight": [[[[1]], [[2]]], [[[3]], [[4]]]],
            "bias": [0.5],
        },
    ),
    CatalogueEntry(
        name="pool",
        title="Pooling",
        selector="mode",
        ops={"max": MaxPool, "avg": AvgPool, "lp": LpPool},
        example={
            "mode": "max",
            "kernel_size": 2,
            "stride": 1,
            "input": [[[[1], [2], [3]], [[6], [5], [4]], [[7], [8], [9]]]],
        },
    ),
    CatalogueEntry(
        name="unpool",
        title="Max unpooling",
        ops={"": MaxUnpool},
        example={"kernel_size": 2, "input": [[[[6], [8]]]], "indices": [[[[5], [2]]]]},
    ),
    CatalogueEntry(
        name="unfold",
        title="Unfold (im2col)",
        ops={"": Unfold},
        example={"kernel_size": 2, "input": [[[[1], [2], [3]], [[4], [5], [6]]]]},
    ),
    CatalogueEntry(
        name="fold",
        title="Fold (col2im)",
        ops={"": Fold},
        example={"output_size": [2, 3], "kernel_size": 2, "input": [[[1, 2, 4, 5], [2, 3, 5, 6]]]},
    ),
    CatalogueEntry(
        name="conv_integer",
        title="Integer convolution (ConvInteger)",
        ops={"": ConvInteger},
        example={
            "input": [[[[2], [3], [4]], [[5], [6], [7]], [[8], [9], [10]]]],
            "weight": [[[[1]], [[1]]], [[[1]], [[1]]]],
            "input_zero_point": 1,
        },
    ),
    CatalogueEntry(
        name="qlinear_conv",
        title="Quantized convolution (QLinearConv)",
        ops={"": QLinearConv},
        example={
            "input": [[[[2], [3], [4]], [[5], [6], [7]], [[8], [9], [10]]]],
            "input_scale": 0.5,
            "input_zero_point": 1,
            "weight": [[[[1]], [[1]]], [[[1]], [[1]]]],
            "weight_scale": 0.25,
            "weight_zero_point": 0,
            "output_scale": 0.5,
            "output_zero_point": 128,
            "bias": [4],
        },
    ),
)

OPERATIONS = tuple(operation for entry in CATALOGUE for operation in entry.operations)
