"""Convolution and pooling layers, forward and backward, in NumPy.

Each op is a frozen dataclass: its fields are its parameters, checked once when it is created.

>>> import numpy as np
>>> from cnn_core import Conv
>>> op = Conv(stride=2, padding=1)
>>> op.output_shape((8, 28, 28, 3), (3, 3, 3, 16))
(8, 14, 14, 16)
>>> op.forward(np.ones((8, 28, 28, 3)), np.ones((3, 3, 3, 16))).shape
(8, 14, 14, 16)
"""

from cnn_core.errors import ConvpoolError, DtypeError, OperandError, ParameterError, ShapeError
from cnn_core.ops.avg_pool import AvgPool
from cnn_core.ops.conv import Conv
from cnn_core.ops.conv_base import ConvGradients
from cnn_core.ops.conv_integer import ConvInteger
from cnn_core.ops.conv_transpose import ConvTranspose
from cnn_core.ops.lp_pool import LpPool
from cnn_core.ops.max_pool import MaxPool, MaxPoolResult
from cnn_core.ops.max_unpool import MaxUnpool
from cnn_core.ops.qlinear_conv import QLinearConv
from cnn_core.ops.unfold import Fold, Unfold
from cnn_core.runtime.threads import get_threads, set_threads

__version__ = "0.1.0"

__all__ = [
    "AvgPool",
    "Conv",
    "ConvGradients",
    "ConvInteger",
    "ConvTranspose",
    "ConvpoolError",
    "DtypeError",
    "Fold",
    "LpPool",
    "MaxPool",
    "MaxPoolResult",
    "MaxUnpool",
    "OperandError",
    "ParameterError",
    "QLinearConv",
    "ShapeError",
    "Unfold",
    "__version__",
    "get_threads",
    "set_threads",
]
