"""The commands that call a server: ``convpool call``, ``convpool cases`` and ``convpool check``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from ...cases import CasesError
from ..errors import CallError
from . import call, cases, check
from .arguments import UsageError

__all__ = ["main"]

COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {"call": call.run, "cases": cases.run, "check": check.run}

FAILED, INTERRUPTED = 2, 130


def main(arguments: Sequence[str]) -> int:
    """Run a command, whose name is the first argument.

    Returns
    -------
    int
        The exit status: 0; 1 if something differs; 2 for an error of usage, of a file or of the server.
    """
    command, *flags = arguments
    try:
        return COMMANDS[command](flags)
    except (UsageError, CasesError, CallError, OSError, ModuleNotFoundError) as error:
        sys.stderr.write(f"convpool {command}: error: {error}\n")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
