"""A form that is parsed while it arrives, for the part that is too large to be kept."""

from __future__ import annotations

from collections.abc import Iterator

from multipart import MultipartError, MultipartSegment, PushMultipartParser

from .message import Buffer
from .multipart import MAX_PARTS, broken_form

__all__ = ["ArrivingForm", "PartBegins", "PartEnds"]

MAX_AROUND = 2**16
"""Bytes that may stand before the first part and after the last one, where nothing should be."""


class PartBegins:
    """A part begins.

    Parameters
    ----------
    name : str
    has_file : bool
        Whether it has a file's name, too.
    """

    def __init__(self, name: str, *, has_file: bool) -> None:
        self.name, self.has_file = name, has_file


class PartEnds:
    """A part has ended."""


class ArrivingForm:
    """Says what each piece of a form holds.

    Parameters
    ----------
    boundary : str
        As the Content-Type has it.

    Raises
    ------
    UnreadablePayload
        If there can be no such boundary.
    """

    def __init__(self, boundary: str) -> None:
        try:
            # not strict: strictly, a line end that arrives by itself after the last boundary would be an error
            self._parser = PushMultipartParser(boundary, max_segment_count=MAX_PARTS, header_charset="latin-1")
        except MultipartError:
            raise broken_form() from None
        self._is_in_part = False
        self._around = 0

    def parse(self, piece: bytes) -> Iterator[PartBegins | Buffer | PartEnds]:
        """Yield what a piece, of at least one byte, holds: where parts begin and end, and bytes of their contents.

        Raises
        ------
        UnreadablePayload
            If the form is broken.
        """
        is_in_part, events = self._is_in_part, 0
        try:
            for event in self._parser.parse(piece):
                events += 1
                self._is_in_part = event is not None
                if isinstance(event, MultipartSegment):
                    yield PartBegins(event.name, has_file=event.filename is not None)
                else:
                    yield PartEnds() if event is None else event
        except MultipartError:
            raise broken_form() from None
        if not is_in_part and not events:
            self._around += len(piece)
            if self._around > MAX_AROUND:
                raise broken_form()

    def end(self) -> None:
        """Require that the form has ended; to be called once the body has.

        Raises
        ------
        UnreadablePayload
        """
        try:
            self._parser.close()
        except MultipartError:
            raise broken_form() from None
