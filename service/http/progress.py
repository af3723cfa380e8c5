"""The time limit of a transfer: by how much it may fall behind a minimum rate."""

from __future__ import annotations

__all__ = ["Progress"]


class Progress:
    """When a transfer counts as stalled.

    What arrives buys time at the minimum rate, but never more than was given at the start: a fast beginning does not
    pay for a long pause, and a byte now and then buys next to nothing.

    Parameters
    ----------
    slack : float
        Seconds that the transfer may pause, or fall behind the rate.
    rate : int
        Bytes per second.
    now : float
        Time, in seconds of any clock.

    Attributes
    ----------
    deadline : float
        Time by which more must be transferred.
    """

    def __init__(self, slack: float, rate: int, now: float) -> None:
        self._slack, self._rate = slack, rate
        self.deadline = now + slack

    def add(self, count: int, now: float) -> None:
        """Take into account that ``count`` bytes were transferred."""
        self.deadline = min(now + self._slack, self.deadline + count / self._rate)
