"""When a call is repeated: no call changes anything on the server, so each may be, but not without end."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .errors import BadGateway, Busy, CallError, Problem, ServerGone, TooManyRequests

__all__ = ["Retries"]


@dataclass(frozen=True)
class Retries:
    """How often, and for how long, a call is repeated that found no server or a busy one.

    Parameters
    ----------
    attempts : int
        How often a call is sent at most; 1 is not to repeat any.
    patience : float
        Seconds after the first attempt within which the last one begins. A server that asks for more (``Retry-After``)
        is not called again.
    first_pause : float
        Seconds before the second attempt, doubled before each further one, unless the server says how many.
    """

    attempts: int = 5
    patience: float = 60.0
    first_pause: float = 0.25

    def pause(self, attempt: int, elapsed: float, error: CallError) -> float:
        """Return for how many seconds to wait before the next attempt; raise the error if there is to be none.

        Parameters
        ----------
        attempt : int
            The number of the attempt that has failed, from 1.
        elapsed : float
            Seconds since the first one began.
        error : CallError
            What it has raised.

        Raises
        ------
        CallError
            The error itself, if it would not go away, or has lasted too long.
        """
        if not isinstance(error, (BadGateway, Busy, TooManyRequests, ServerGone)) or attempt >= self.attempts:
            raise error
        asked = error.retry_after or 0.0 if isinstance(error, Problem) else 0.0
        # those that were refused together would come back together: some wait longer
        seconds = asked + self.first_pause * 2.0 ** (attempt - 1) * random.uniform(0.5, 1)  # noqa: S311
        if elapsed + seconds > self.patience:
            raise error
        return seconds
