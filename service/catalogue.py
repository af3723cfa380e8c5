"""The layers that the service offers. A further one is an entry here: routes, /ops and the docs derive from it."""

from __future__ import annotations

from cnn_core import AvgPool, Conv, MaxPool
from service.operations import LayerDeclaration

__all__ = ["LAYERS", "OPERATIONS"]

LAYERS = (
    LayerDeclaration(
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
    LayerDeclaration(
        name="pool",
        title="Pooling",
        selector="mode",
        ops={"max": MaxPool, "avg": AvgPool},
        example={
            "mode": "max",
            "kernel_size": 2,
            "stride": 1,
            "input": [[[[1], [2], [3]], [[6], [5], [4]], [[7], [8], [9]]]],
        },
    ),
)

OPERATIONS = tuple(operation for layer in LAYERS for operation in layer.operations)
