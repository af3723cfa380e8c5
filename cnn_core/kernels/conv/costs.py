"""What a convolution and each of its gradients cost, as their kernels predict it.

The memory is predicted for the type that takes more; the time for float64, whose blocks hold the fewest windows, and
for sums that are computed directly.
"""

from __future__ import annotations

import math

from cnn_core.geometry import Windows
from cnn_core.kernels.conv.direct import direct_kernel
from cnn_core.kernels.conv.problem import conv_problem
from cnn_core.kernels.conv.select import forward_kernel, grad_input_kernel, taken
from cnn_core.kernels.cost import MOVED_ELEMENT, Cost, Costs
from cnn_core.parameters import Algorithm, Direction

__all__ = ["conv_costs"]

BIAS_ELEMENTS = 2**17
"""The sums of a block of grad_output, in float64."""


def conv_costs(
    batch: int,
    channels: int,
    weight_shape: tuple[int, ...],
    windows: Windows,
    algorithm: Algorithm,
    *,
    transposed: bool = False,
) -> Costs:
    """Return what a convolution costs, and what each of its gradients costs.

    Parameters
    ----------
    batch, channels : int
    weight_shape : tuple of int
        (*K, C/G, F).
    windows : Windows
    algorithm : {"auto", "direct", "fastest", "winograd", "fft"}
    transposed : bool
        Whether it is for a transposed convolution, whose output is the gradient with respect to the input.
    """
    groups = channels // weight_shape[-2]
    forward, grad_input, grad_weight = 0, 0, 0
    for itemsize in (4, 8):
        problem = conv_problem(batch, weight_shape, groups, windows, itemsize)
        directions: tuple[Direction, Direction] = ("backward", "forward") if transposed else ("forward", "backward")
        of_forward, of_input = (taken(problem, algorithm, each, transposed=transposed) for each in directions)
        of_weight = taken(problem, algorithm, "backward", transposed=transposed)
        forward = max(forward, forward_kernel(problem, of_forward).forward_workspace(problem))
        grad_input = max(grad_input, grad_input_kernel(problem, of_input).workspace(problem))
        grad_weight = max(grad_weight, forward_kernel(problem, of_weight).grad_weight_workspace(problem))
    work = direct_kernel(problem).work(problem)
    return Costs(
        Cost(work, forward),
        {
            "input": Cost(grad_input_kernel(problem, "direct").work(problem), grad_input),
            "weight": Cost(work, grad_weight),
            "bias": Cost(
                MOVED_ELEMENT * math.prod(problem.positions) * problem.features, BIAS_ELEMENTS + 4 * problem.features
            ),
        },
    )
