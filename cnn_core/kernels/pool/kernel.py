"""What a pooling kernel is: one way to compute a pooling and its gradient on a block of windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...geometry import AnyWindows
from ...runtime.workspace import Workspace
from ..cost import Costs
from .block import PoolBlock

__all__ = ["PoolKernel"]

Array = NDArray[Any]


class PoolKernel(Protocol):
    """A pooling of blocks; several threads call it at the same time.

    ``axes`` are the spatial axes of the operands, and ``dtype`` is the floating type that is computed in.
    """

    @property
    def axes(self) -> Sequence[int]:
        """The spatial axes of the operands."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The floating type that is computed in."""

    def forward(self, workspace: Workspace, input: Array, block: PoolBlock, results: Sequence[Array]) -> None:
        """Write the results of a block of windows.

        Parameters
        ----------
        workspace : Workspace
            Of the thread that computes the block.
        input : ndarray of ``dtype``
            The part of the input that the windows of the block cover.
        block : PoolBlock
        results : sequence of ndarray
            The block's part of each result; floating ones are of ``dtype``.
        """

    def backward(
        self, workspace: Workspace, gradient: Array, input: Array, block: PoolBlock, grad_input: Array
    ) -> None:
        """Write the gradient of the input for the rows that the block owns.

        Parameters
        ----------
        workspace : Workspace
            Of the thread that computes the block.
        gradient : ndarray of ``dtype``
            Of the windows of the block.
        input : ndarray
            The part of the input that they cover, in its own type.
        block : PoolBlock
        grad_input : ndarray of ``dtype``
            The rows that the block owns.
        """

    def costs(self, planes: int, windows: AnyWindows) -> Costs:
        """Return the work of these windows over so many planes, and the workspace if they are computed as one block."""

    def shared_elements(self, planes: int, windows: AnyWindows) -> int:
        """Return how many elements the kernel, or its caller, allocates once for all blocks of a pooling."""
