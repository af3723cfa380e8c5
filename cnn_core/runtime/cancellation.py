"""Stop a computation at its next block: a token that one thread cancels and the threads that compute look at.

Kernels call ``check_cancelled`` before each block, and within blocks that take long. Nothing else needs the token: it
is in the context of the computation, which the threads that help it share (``threads.py``).
"""

from __future__ import annotations

import math
import time
from contextvars import ContextVar
from typing import NamedTuple, Self

from ..errors import Cancelled, DeadlineExceeded, ParameterError, describe

__all__ = ["Cancellation", "check_cancelled", "is_cancellable"]


class Cancellation:
    """A token that stops the computations within its context.

    As a context manager it applies to everything that the ``with`` block computes, also on the threads that help.
    ``cancel`` may be called from any thread. The computation raises at its next block, that is within some hundredths
    of a second; threads that help it have left by then, and its memory is free.

    A token stays cancelled. It may be entered by several threads, and within another one: either of the two stops the
    computation.

    Parameters
    ----------
    seconds : float, optional
        The time limit, from now on; a computation that reaches it raises DeadlineExceeded. None: no limit.

    Raises
    ------
    ParameterError
        If ``seconds`` is not a number of at least 0.

    Examples
    --------
    >>> import numpy as np
    >>> from cnn_core import Cancellation, Cancelled, Conv
    >>> token = Cancellation(seconds=10)
    >>> token.cancel()  # usually called by another thread
    >>> try:
    ...     with token:
    ...         Conv().forward(np.ones((1, 8, 8, 1)), np.ones((3, 3, 1, 1)))
    ... except Cancelled as stopped:
    ...     print(stopped)
    the computation was cancelled
    """

    def __init__(self, *, seconds: float | None = None) -> None:
        if seconds is not None and (
            not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not seconds >= 0
        ):
            raise ParameterError("seconds", "must be", "a number of at least 0, or None", got=describe(seconds))
        self._is_cancelled = False
        self._seconds = math.inf if seconds is None else seconds
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def cancel(self) -> None:
        """Stop the computations within the token's context; those that begin later raise at once."""
        self._is_cancelled = True

    @property
    def is_cancelled(self) -> bool:
        """Whether ``cancel`` was called; a deadline that has passed does not count."""
        return self._is_cancelled

    def check(self) -> None:
        """Raise if the token was cancelled or its time is over; for the caller's own steps between computations.

        Raises
        ------
        Cancelled
            If ``cancel`` was called.
        DeadlineExceeded
            Otherwise, if the time limit is reached.
        """
        if self._is_cancelled:
            raise Cancelled("the computation was cancelled")
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise DeadlineExceeded(f"the computation reached its time limit of {self._seconds:g} seconds")

    def __enter__(self) -> Self:
        _scope.set(_Scope(self, _scope.get()))
        return self

    def __exit__(self, *_: object) -> None:
        scope = _scope.get()
        if scope is not None:
            _scope.set(scope.outer)


class _Scope(NamedTuple):
    """A token that was entered, and what was entered before it."""

    token: Cancellation
    outer: _Scope | None


_scope: ContextVar[_Scope | None] = ContextVar("cnn_core cancellation", default=None)


def is_cancellable() -> bool:
    """Return whether this thread is in the context of a token."""
    return _scope.get() is not None


def check_cancelled() -> None:
    """Raise Cancelled if the computation that this thread is in must stop."""
    scope = _scope.get()
    while scope is not None:
        scope.token.check()
        scope = scope.outer
