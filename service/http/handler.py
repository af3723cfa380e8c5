"""The path of one request of an operation, or of another task, from its headers to its response.

It flows one way: formats negotiated, body read, then on a compute thread: decoded, parameters validated, cost predicted
and checked, computed, encoded. What is known to be small is computed on the event loop at once: handing it to a thread
would take longer.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..codecs import Body, Buffer, Codec, Decoded, Limits, RequestContext, ResponseContext, Writer
from ..codecs.buffers import COPIED_BYTES
from ..diagnosis import CheckTask, ReportWriter
from ..operations.admission import Ticket
from ..operations.budget import check_budget
from ..operations.operation import CatalogueEntry, Operation
from ..operations.scheduling import LIGHT_WORK, LONG_WORK, ComputePool
from ..operations.task import Plan, Task
from ..problems import NoMemory, TooLarge
from ..settings import Settings
from .body import disconnected, read_body
from .compression import MIN_COMPRESSED_BYTES, VARY, compressed, decompressed, request_coding, response_coding
from .error_responses import error_response
from .headers import RequestHeaders
from .negotiation import (
    RequestFormat,
    best_media_type,
    body_limit,
    checkable_codecs,
    readable_codecs,
    refuse_unwritable,
    request_format,
    response_codec,
    writable_codecs,
)
from .request_parameters import merged, query_parameters
from .responses import PARAMETERS_HEADER, BufferResponse

__all__ = ["TIMINGS", "Exchange", "OperationHandler", "TaskHandler", "forget_frames", "new_ticket"]

SMALL_BINARY, SMALL_TEXT = 2**16, 2**14
"""Bytes of a body that is decoded on the event loop: some tenths of a millisecond; for text made to be slow, a few."""

WORK_PER_BYTE, WORK_PER_SLOW_BYTE = 16, 128
"""Multiply-accumulates that take about as long as decoding a byte, at worst: of a file; of text or compressed data."""

WORK_PER_BYTE_OF_MEMORY = 2
"""Multiply-accumulates that take about as long as writing a byte to memory that was not used before."""

SMALL_ARCHIVE, EXPECTED_RATIO = 2**20, 8
"""Bytes, and how many for each of its own, that a compressed body is expected to inflate to at most."""

TIMINGS = "convpool.timings"
"""Where in a scope's state the seconds of each part of a request are."""

SMALL_WORK, SMALL_RESULTS, SMALL_WORKSPACE = 2**20, 2**16, 2**20
"""Predicted work and memory of what is computed on the event loop: about as long as handing it to a thread takes."""


@dataclass(frozen=True)
class Exchange:
    """How one request is read and its response written.

    Parameters
    ----------
    read_as : RequestFormat
    writer : callable
        Returns what writes the response from the number of results.
    parameters : callable
        Returns all parameters of the request from its decoded body.
    """

    read_as: RequestFormat
    writer: Callable[[int], Writer]
    parameters: Callable[[Decoded], Mapping[str, Any]]


class TaskHandler:
    """Handles the requests of one task, as an ASGI application and as a function of a request.

    Parameters
    ----------
    task : Task
    settings : Settings
    readable : tuple of Codec
        How a request may be written.
    writable : tuple of Writer
        How a response may be written; by default as the last one does.
    """

    def __init__(
        self, task: Task, settings: Settings, readable: tuple[Codec, ...], writable: tuple[Writer, ...]
    ) -> None:
        self.task = task
        self._settings = settings
        self._readable, self._writable = readable, writable

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope, receive)
        try:
            response = await self.respond(request)
        except Exception as error:  # noqa: BLE001  (each gets the response that its kind has)
            response = error_response(request, error)
            forget_frames(error)
        await response(scope, receive, send)

    async def respond(self, request: Request) -> Response:
        """Return the response to a request in one of the formats that Content-Type and Accept name."""
        headers = RequestHeaders(request.scope["headers"])
        accept = headers.get("accept") or None

        def exchange() -> Exchange:
            read_as = request_format(headers.get("content-type"), self._readable)
            refuse_unwritable(accept, self._writable)
            query = query_parameters(request)
            return Exchange(
                read_as,
                lambda results: self._writer(accept, read_as.codec, results),
                lambda decoded: merged(query, decoded.parameters),
            )

        return await self.answer(request, headers, exchange)

    def _writer(self, accept: str | None, read_by: Codec, results: int) -> Writer:  # noqa: ARG002
        """Return what writes a response with so many results to a request that a codec has read."""
        chosen = best_media_type([writer.media_type for writer in self._writable], accept)
        return next(writer for writer in self._writable if writer.media_type == chosen)

    async def answer(
        self, request: Request, headers: RequestHeaders, exchange: Callable[[], Exchange]
    ) -> BufferResponse:
        """Return the response to a request whose formats are chosen in any other way.

        Parameters
        ----------
        request : Request
        headers : RequestHeaders
        exchange : callable
            Returns the exchange; called once the request is counted, before its body is read.
        """
        began, received, call = time.perf_counter(), 0.0, None
        ticket = new_ticket(request)
        try:
            chosen = exchange()
            coding = request_coding(headers.get("content-encoding"))
            codec, settings = chosen.read_as.codec, self._settings
            as_view = codec.reads_views and coding is None
            limit = body_limit(codec, settings)
            body = await read_body(
                request, headers, limit, ticket, settings, as_view=as_view, decode_memory=codec.decode_memory
            )
            received = time.perf_counter()
            call = _Call(self.task, chosen, headers, body, coding, ticket, settings)
            content = call.decoded_at_once()
            response = None if content is None else call.respond_at_once(content)
            if response is None:
                response = await self._computed_on_threads(request, call, content)
        except BaseException:
            ticket.give_back()
            raise
        finally:
            ended = time.perf_counter()
            receive = (received or ended) - began - ticket.waited
            compute = call.compute_seconds if call is not None else 0.0
            queue = max(0.0, ended - began - receive - compute)
            request.scope["state"][TIMINGS] = {"receive": receive, "queue": queue, "compute": compute}
        if response.size > SMALL_RESULTS:  # which its client may take slowly
            ticket.keep_only(response.size + len(body))  # results may be views of the body
        response.release = ticket.give_back
        return response

    async def _computed_on_threads(self, request: Request, call: _Call, content: _Content | None) -> BufferResponse:
        pool: ComputePool = request.app.state.pool
        gone = asyncio.ensure_future(disconnected(request))
        try:
            job = await self._begun(pool, call, content, gone)
            if isinstance(job, BufferResponse):
                return job
            await call.ticket.reserve(job.memory)
            return await pool.run(lambda: call.computed(job), job.work, gone)
        finally:
            gone.cancel()

    async def _begun(
        self, pool: ComputePool, call: _Call, content: _Content | None, gone: asyncio.Future[None]
    ) -> BufferResponse | _Job:
        work, inflated = self._work_to_begin(call, content), self._settings.max_decompressed_bytes
        expected = min(inflated, max(SMALL_ARCHIVE, EXPECTED_RATIO * len(call.body)))
        most = min(pool.most_work(work), LIGHT_WORK)
        try:
            return await pool.run(lambda: call.begin(content, expected, most), work, gone)
        except NoMemory as refusal:
            if len(call.body) >= COPIED_BYTES:  # it may be decoded only once
                raise
            needed = refusal.needed
        except TooLarge:
            if content is not None or expected == inflated:
                raise
            needed = 0
        # it inflates to more than is usual, which may take long, or has to wait for memory
        await call.ticket.reserve(needed)
        return await pool.run(lambda: call.begin(content, inflated, LIGHT_WORK), LONG_WORK + 1, gone)

    def _work_to_begin(self, call: _Call, content: _Content | None) -> int:
        """Return the work of decoding a request and planning it, of which only decoding may take long."""
        return call.decoding_work(content)


class OperationHandler(TaskHandler):
    """Handles the requests of one operation.

    Parameters
    ----------
    operation : Operation
    settings : Settings
    """

    def __init__(self, operation: Operation, settings: Settings) -> None:
        super().__init__(operation, settings, readable_codecs(operation), writable_codecs())

    def _writer(self, accept: str | None, read_by: Codec, results: int) -> Writer:
        return response_codec(accept, read_by, results)


class CheckHandler(TaskHandler):
    """Handles the requests that check what somebody computed for a layer.

    Parameters
    ----------
    entry : CatalogueEntry
    settings : Settings
    """

    def __init__(self, entry: CatalogueEntry, settings: Settings) -> None:
        task = CheckTask(entry, settings.max_work)
        super().__init__(task, settings, checkable_codecs(entry), (ReportWriter(),))


def new_ticket(request: Request) -> Ticket:
    """Return a ticket for a request; its client is the last address that is known of it."""
    client = request.scope.get("client")
    return Ticket(request.app.state.admission, client[0] if client else "")


def forget_frames(error: BaseException | None) -> None:
    """Let an exception that became a response no longer refer to the frames that it passed.

    They have the request's body, and refer to the exception in turn: only the garbage collector, which comes rarely,
    would free its memory.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


class _Content(NamedTuple):
    """What a body holds, and all parameters of the request."""

    decoded: Decoded
    parameters: Mapping[str, Any]


class _Job(NamedTuple):
    """A computation whose memory and work are known."""

    plan: Plan
    decoded: Decoded
    writer: Writer
    memory: int
    work: int


@dataclass(slots=True)
class _Call:
    """One request whose body was read."""

    task: Task
    exchange: Exchange
    headers: Mapping[str, str]
    body: Body
    coding: str | None
    ticket: Ticket
    settings: Settings
    compute_seconds: float = 0.0

    def decoded_at_once(self) -> _Content | None:
        """Return what a small body holds, or None if decoding it may take long."""
        codec = self.exchange.read_as.codec
        if self.coding or len(self.body) > (SMALL_TEXT if codec.charset else SMALL_BINARY):
            return None
        try:
            return self._decoded(min(SMALL_BINARY, self.settings.max_decompressed_bytes))
        except TooLarge:  # an archive
            return None

    def respond_at_once(self, content: _Content) -> BufferResponse | None:
        """Return the response to a call that is known to be small, or None."""
        plan = self.task.known_plan(content.parameters, content.decoded.tensors)
        if plan is None or not _is_small(plan):
            return None
        job = self._job(plan, content.decoded)
        if job.writer.compressible and self._response_coding(MIN_COMPRESSED_BYTES):
            return None
        return self.computed(job) if self.ticket.reserved_at_once(job.memory) else None

    def decoding_work(self, content: _Content | None) -> int:
        """Return the work of ``begin``, in multiply-accumulates that take as long."""
        if content is not None:
            return 0
        slow = self.coding or self.exchange.read_as.codec.charset
        return len(self.body) * (WORK_PER_SLOW_BYTE if slow else WORK_PER_BYTE)

    def begin(self, content: _Content | None, decompressed_bytes: int, most_work: int) -> BufferResponse | _Job:
        """Decode the body, unless it was, and plan the computation; if it is not too much for this thread, go on.

        Parameters
        ----------
        content : _Content, optional
        decompressed_bytes : int
            What a compressed body, or an archive, may inflate to; it is TooLarge otherwise.
        most_work : int
            In multiply-accumulates.
        """
        began = time.perf_counter()
        if content is None:
            content = self._decoded(decompressed_bytes)
        job = self._job(self.task.plan(content.parameters, content.decoded.tensors), content.decoded)
        self.compute_seconds += time.perf_counter() - began
        if job.work <= most_work and self.ticket.reserved_at_once(job.memory):
            return self.computed(job)
        return job

    def computed(self, job: _Job) -> BufferResponse:
        """Return the response to a call whose memory is reserved."""
        began = time.perf_counter()
        response = self._response(job)
        self.compute_seconds += time.perf_counter() - began
        return response

    def _decoded(self, decompressed_bytes: int) -> _Content:
        read_as = self.exchange.read_as
        context = RequestContext(self.task.operand_names, read_as.options, self.headers)
        body: Body = self.body
        if self.coding:
            limit = min(body_limit(read_as.codec, self.settings), decompressed_bytes)
            body = decompressed(body, self.coding, limit, self.ticket.charge)
        decoded = read_as.codec.decode(body, context, Limits(decompressed_bytes, self.ticket.charge))
        return _Content(decoded, self.exchange.parameters(decoded))

    def _job(self, plan: Plan, decoded: Decoded) -> _Job:
        prediction = plan.prediction
        writer = self.exchange.writer(len(prediction.results))
        text = writer.response_memory(prediction.results, decoded.response_options)
        check_budget(prediction, text, self.settings)
        memory = prediction.result_bytes + prediction.workspace_bytes + text
        work = prediction.work + memory * WORK_PER_BYTE_OF_MEMORY + text * WORK_PER_SLOW_BYTE
        return _Job(plan, decoded, writer, memory, work)

    def _response(self, job: _Job) -> BufferResponse:
        prediction, decoded, writer = job.plan.prediction, job.decoded, job.writer
        self.ticket.charge(job.memory)
        results = self.task.compute(job.plan, decoded.tensors)
        context = ResponseContext(decoded.response_options, self.task.name, prediction.parameters)
        encoded = writer.encode(results, context)
        headers = {PARAMETERS_HEADER: prediction.parameters_text} if prediction.parameters else {}
        headers |= encoded.headers
        buffers: Sequence[Buffer] = encoded.buffers
        if writer.compressible:
            headers |= VARY
            coding = self._response_coding(sum(memoryview(buffer).nbytes for buffer in buffers))
            if coding is not None:
                headers["Content-Encoding"] = coding
                buffers = compressed(buffers, coding, self.ticket.charge)
        return BufferResponse(buffers, writer.media_type, headers)

    def _response_coding(self, size: int) -> str | None:
        """Return the content coding that the client asks for; a list, which most libraries send, is no request."""
        return response_coding(self.headers.get("accept-encoding"), size, only_if_named_alone=True)


def _is_small(plan: Plan) -> bool:
    predicted = plan.prediction
    return (
        predicted.work <= SMALL_WORK
        and predicted.result_bytes <= SMALL_RESULTS
        and predicted.workspace_bytes <= SMALL_WORKSPACE
    )
