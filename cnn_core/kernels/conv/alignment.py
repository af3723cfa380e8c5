"""Where a region of an image must begin along the last axis to have the bits that it has in the whole image.

Along the other axes it may begin anywhere. This is so for sums that are added directly (docs/algorithms.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from .col2im import aligned_windows
from .direct import direct_kernel
from .polyphase import component_problems
from .problem import ConvProblem, cached_per_problem
from .select import is_polyphase
from .window_blocking import ALIGNMENT, MIN_WINDOWS, WINDOW_BLOCKING, blocked_problem, joined_windows

__all__ = ["Alignment", "forward_alignment", "grad_input_alignment"]


@dataclass(frozen=True)
class Alignment:
    """A region begins at a multiple of so many, and has at least so many, or all that follow.

    Parameters
    ----------
    multiple, least : int
    of_elements : bool
        Whether that counts elements of the input, and not windows.
    """

    multiple: int = 1
    least: int = 1
    of_elements: bool = False

    def around(self, start: int, stop: int, size: int) -> tuple[int, int]:
        """Return the smallest such region of an axis that has all from start to stop.

        Examples
        --------
        >>> Alignment(8, 9).around(10, 12, 100), Alignment(8, 9).around(98, 99, 100)
        ((8, 17), (88, 99))
        """
        first = start // self.multiple * self.multiple
        while first and size - first < self.least:
            first -= self.multiple
        return first, max(stop, min(first + self.least, size))


@cached_per_problem
def forward_alignment(problem: ConvProblem) -> Alignment:
    """Return where regions of a convolution's output must begin, in windows."""
    return Alignment(ALIGNMENT, MIN_WINDOWS) if direct_kernel(problem) is WINDOW_BLOCKING else Alignment()


@cached_per_problem
def grad_input_alignment(problem: ConvProblem) -> Alignment:
    """Return where regions of the gradient with respect to the input must begin."""
    if is_polyphase(problem, "direct"):
        # windows that are joined are every so many elements
        stride = problem.windows.axes[-1].stride
        alignments = map(forward_alignment, component_problems(problem))
        joins = any(each.multiple > 1 for each in alignments)
        return Alignment(stride * ALIGNMENT, stride * MIN_WINDOWS, of_elements=True) if joins else Alignment()
    if WINDOW_BLOCKING.supports(problem):
        return Alignment(joined_windows(problem) * aligned_windows(blocked_problem(problem)), MIN_WINDOWS)
    return Alignment(aligned_windows(problem))
