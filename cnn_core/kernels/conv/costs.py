"""What a convolution and each of its gradients cost, as their kernels predict it.

The memory is predicted for the type that takes more; the time for float64, whose blocks hold the fewest windows, and
for sums that are computed directly.
"""

from __future__ import annotations

from collections.abc import Callable

from ...geometry import Windows
from ...parameters import Algorithm, Direction, TakenAlgorithm
from ..channel_sums import channel_sums_cost
from ..cost import Cost, Costs
from .direct import direct_kernel
from .problem import ConvProblem, conv_problem
from .select import forward_kernel, grad_input_kernel, taken

__all__ = ["conv_costs"]


def conv_costs(
    batch: int,
    channels: int,
    weight_shape: tuple[int, ...],
    windows: Windows,
    algorithm: Algorithm,
    *,
    transposed: bool = False,
) -> Costs:
    """Return the costs of a convolution and of each of its gradients; each is predicted when it is requested.

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
    in_float32, in_float64 = (conv_problem(batch, weight_shape, groups, windows, itemsize) for itemsize in (4, 8))

    def algorithm_of(problem: ConvProblem, direction: Direction) -> TakenAlgorithm:
        return taken(problem, algorithm, direction, transposed=transposed)

    def most(workspace: Callable[[ConvProblem], int]) -> int:
        return max(workspace(in_float32), workspace(in_float64))

    def forward() -> Cost:
        direction: Direction = "backward" if transposed else "forward"
        return Cost(
            direct_kernel(in_float64).work(in_float64),
            most(lambda problem: forward_kernel(problem, algorithm_of(problem, direction)).forward_workspace(problem)),
        )

    def grad_input() -> Cost:
        direction: Direction = "forward" if transposed else "backward"
        return Cost(
            grad_input_kernel(in_float64, "direct").work(in_float64),
            most(lambda problem: grad_input_kernel(problem, algorithm_of(problem, direction)).workspace(problem)),
        )

    def grad_weight() -> Cost:
        return Cost(
            direct_kernel(in_float64).work(in_float64),
            most(lambda each: forward_kernel(each, algorithm_of(each, "backward")).grad_weight_workspace(each)),
        )

    def grad_bias() -> Cost:
        output = (batch, *windows.sizes, channels) if transposed else (*in_float64.positions, in_float64.features)
        return channel_sums_cost(output)

    return Costs(forward, {"input": grad_input, "weight": grad_weight, "bias": grad_bias})
