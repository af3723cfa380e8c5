"""A batch that is read while it arrives: the pieces of a body, and the npy file in them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from numpy.typing import NDArray
from starlette.requests import Request

from ..codecs import Limits
from ..codecs.arriving_form import ArrivingForm, PartBegins, PartEnds
from ..codecs.message import Buffer
from ..codecs.multipart import MAX_FIELD, Part, content_of
from ..codecs.npy import NpyHead, npy_head_bytes, read_npy_head
from ..operations.admission import SMALL_BODY, Ticket
from ..problems import InvalidRequest, TooLarge, UnreadablePayload
from ..settings import Settings
from .body import MIN_ROOM, RECEIVED, content_length, too_slow, wrong_length
from .progress import Progress

__all__ = ["ArrivingBody", "BatchFile", "FormBeforeBatch", "form_before_batch"]


class ArrivingBody:
    """A body, piece by piece: as long as it arrives fast enough, and no faster than it is asked for.

    Parameters
    ----------
    request : Request
    headers : mapping of str to str
    settings : Settings

    Attributes
    ----------
    length : int or None
        What Content-Length says.
    waited : float
        Seconds for which the client was waited for.
    """

    def __init__(self, request: Request, headers: Mapping[str, str], settings: Settings) -> None:
        self.length = content_length(headers)
        self.waited = 0.0
        self._request, self._settings = request, settings
        self._time = asyncio.get_running_loop().time
        self._left = self._time()
        self._progress = Progress(settings.body_timeout, settings.min_transfer_rate, self._left)
        self._size, self._more = 0, True

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield what has arrived, until the body's end.

        Raises
        ------
        BodyTimeout
            If the client is too slow. The time between two pieces in which none is asked for does not count.
        UnreadablePayload
            If there are fewer or more bytes than Content-Length says, or the client is gone.
        """
        while self._more:
            piece = await self._received()
            if piece:
                yield piece
        if self.length is not None and self._size != self.length:
            raise wrong_length(f"{self._size} bytes", f"{self.length} bytes, as Content-Length says")

    async def _received(self) -> bytes:
        began = self._time()
        self._progress.deadline += began - self._left
        try:
            async with asyncio.timeout_at(self._progress.deadline):
                message = await self._request.receive()
        except TimeoutError:
            raise too_slow(self._settings) from None
        finally:
            self._left = self._time()
            self.waited += self._left - began
        if message["type"] == "http.disconnect":
            raise wrong_length("the connection's end", "the whole body")
        piece: bytes = message.get("body", b"")
        self._progress.add(len(piece), self._left)
        self._size += len(piece)
        self._more = message.get("more_body", False)
        self._request.scope["state"][RECEIVED] = self._size
        if self.length is not None and self._size > self.length:
            raise wrong_length("more", f"{self.length} bytes, as Content-Length says")
        return piece


class BatchFile:
    """The npy file of a batch, read in order.

    Parameters
    ----------
    name : str
        The operand, to be named in errors.
    pieces : async iterator of bytes-like
        The file; it raises what is wrong with what comes after it.
    """

    def __init__(self, name: str, pieces: AsyncIterator[Buffer]) -> None:
        self._name, self._pieces = name, pieces
        self._rest = memoryview(b"")

    async def head(self) -> NpyHead:
        """Return the head, and go on after it.

        Raises
        ------
        UnreadablePayload, InvalidRequest
            If it is not the head of a tensor's npy file.
        """
        start = bytearray()
        while (needed := npy_head_bytes(start)) > len(start):
            piece = await self._next(needed - len(start))
            if not piece:
                break
            start += piece
        return read_npy_head(memoryview(start), self._name)

    async def fill(self, buffer: memoryview) -> None:
        """Fill a buffer with what follows.

        Raises
        ------
        UnreadablePayload
            If the file ends before.
        """
        filled = 0
        while filled < len(buffer):
            piece = await self._next(len(buffer) - filled)
            if not piece:
                fault, expected = f"{self._name} ends too early", "all the data that its header promises"
                raise UnreadablePayload.of(f"/{self._name}", fault, got="less", expected=expected)
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)

    async def end(self) -> None:
        """Require that the file, and all that it comes in, has ended as it should.

        Raises
        ------
        UnreadablePayload, InvalidRequest
        """
        if await self._next(1):
            fault, expected = f"{self._name} goes on after its data", "the data that its header promises, and no more"
            raise UnreadablePayload.of(f"/{self._name}", fault, got="more bytes", expected=expected)

    async def _next(self, most: int) -> memoryview:
        """Return at most so many bytes; none at the file's end."""
        while not self._rest:
            piece = await anext(self._pieces, None)
            if piece is None:
                break
            self._rest = memoryview(piece)
        taken, self._rest = self._rest[:most], self._rest[most:]
        return taken


class FormBeforeBatch:
    """What a form holds before its batch, and the batch.

    Parameters
    ----------
    operands : dict of str to ndarray
    parameters : dict of str to object
    batch : BatchFile
    """

    def __init__(self, operands: dict[str, NDArray[Any]], parameters: dict[str, Any], batch: BatchFile) -> None:
        self.operands, self.parameters, self.batch = operands, parameters, batch


async def form_before_batch(
    body: ArrivingBody, boundary: str, operands: tuple[str, ...], batch: str, ticket: Ticket, limit: int
) -> FormBeforeBatch:
    """Read a form up to where its batch begins.

    Parameters
    ----------
    body : ArrivingBody
    boundary : str
    operands : tuple of str
        Names of all operands.
    batch : str
        Name of the one that holds the batch, whose part is the last one.
    ticket : Ticket
        What the memory of the others is charged to.
    limit : int
        Maximum size of all other parts together, in bytes.

    Raises
    ------
    UnreadablePayload, InvalidRequest, TooLarge, Busy
    """
    form = ArrivingForm(boundary)
    events = _events(form, body)
    parts: list[Part] = []
    room = _Room(ticket, limit)
    name, has_file, content = "", False, bytearray()
    async for event in events:
        if isinstance(event, PartBegins):
            name, has_file, content = event.name, event.has_file, bytearray()
            if name == batch:
                decoded = content_of(parts, operands, Limits(limit, ticket.charge))
                return FormBeforeBatch(decoded.tensors, decoded.parameters, BatchFile(batch, _contents(events, batch)))
        elif isinstance(event, PartEnds):
            parts.append(Part(name, memoryview(content), has_file))
        elif name in operands or len(content) < MAX_FIELD:  # a parameter is no longer than that
            await room.take(len(event))
            content += event
    expected = f"a part {batch} with an npy file, after all other parts"
    raise InvalidRequest.of(f"/{batch}", f"the operand {batch} is missing", got="nothing", expected=expected)


async def _events(form: ArrivingForm, body: ArrivingBody) -> AsyncIterator[PartBegins | Buffer | PartEnds]:
    async for piece in body.pieces():
        for event in form.parse(piece):
            yield event
    form.end()


async def _contents(events: AsyncIterator[PartBegins | Buffer | PartEnds], batch: str) -> AsyncIterator[Buffer]:
    """Yield the content of the part that has begun, which must be the last one."""
    async for event in events:
        if isinstance(event, PartBegins):
            fault, got = f"{batch} is not the last part of the form", "another part after it"
            raise InvalidRequest.of("", fault, got=got, expected=f"all other operands and parameters before {batch}")
        if not isinstance(event, PartEnds):
            yield event


class _Room:
    """Memory for what comes before a batch, reserved step by step, since nothing says how much it will be."""

    def __init__(self, ticket: Ticket, limit: int) -> None:
        self._ticket, self._limit = ticket, limit
        self._size, self._room = 0, SMALL_BODY

    async def take(self, count: int) -> None:
        self._size += count
        if self._size > self._limit:
            got, expected = f"{self._size} bytes or more", f"at most {self._limit} bytes"
            raise TooLarge.of(
                "", "the parts before the batch are larger than this server allows", got=got, expected=expected
            )
        while self._size > self._room:
            more = max(count, min(max(self._room, MIN_ROOM), self._limit - self._room))
            await self._ticket.admit_body(more)
            self._room += more
        self._ticket.charge(count)
