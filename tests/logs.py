"""Collecting what a logger is given, however the tests before have configured logging."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

__all__ = ["logged"]


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextlib.contextmanager
def logged(name: str) -> Iterator[list[logging.LogRecord]]:
    """Yield the list of all records that a logger and those below it get meanwhile."""
    logger, handler = logging.getLogger(name), _Records()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield handler.records
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
