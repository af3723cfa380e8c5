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

from .errors import Cancelled, ConvpoolError, DeadlineExceeded, DtypeError, OperandError, ParameterError, ShapeError
from .ops.avg_pool import AvgPool
from .ops.conv import Conv
from .ops.conv_base import ConvGradients
from .ops.conv_integer import ConvInteger
from .ops.conv_transpose import ConvTranspose
from .ops.lp_pool import LpPool
from .ops.max_pool import MaxPool, MaxPoolResult
from .ops.max_unpool import MaxUnpool
from .ops.qlinear_conv import QLinearConv
from .ops.unfold import Fold, Unfold
from .runtime.cancellation import Cancellation
from .runtime.threads import get_threads, set_threads

__version__ = "0.1.0"

__all__ = [
    "AvgPool",
    "Cancellation",
    "Cancelled",
    "Conv",
    "ConvGradients",
    "ConvInteger",
    "ConvTranspose",
    "ConvpoolError",
    "DeadlineExceeded",
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
