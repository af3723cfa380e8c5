"""The path of one request of an operation, from its headers to its response.

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

from ..codecs import Body, Buffer, Codec, Decoded, Limits, RequestContext, ResponseContext
from ..codecs.buffers import COPIED_BYTES
from ..codecs.names import pointer_to
from ..codecs.text import NOT_GIVEN, parse_text_parameters
from ..operations.admission import Ticket
from ..operations.budget import check_budget
from ..operations.operation import Operation, Plan
from ..operations.scheduling import LIGHT_WORK, LONG_WORK, ComputePool
from ..problems import Finding, InvalidRequest, NoMemory, TooLarge
from ..settings import Settings
from .body import disconnected, read_body
from .compression import MIN_COMPRESSED_BYTES, VARY, compressed, decompressed, request_coding, response_coding
from .error_responses import error_response
from .headers import RequestHeaders
from .negotiation import (
    RequestFormat,
    readable_codecs,
    refuse_unwritable,
    request_format,
    response_codec,
    writable_codecs,
)
from .responses import PARAMETERS_HEADER, BufferResponse

__all__ = ["TIMINGS", "Exchange", "OperationHandler", "body_limit", "merged", "new_ticket", "query_parameters"]

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
    response_codec : callable
        Returns the codec of the response from the number of results.
    parameters : callable
        Returns all parameters of the request from its decoded body.
    """

    read_as: RequestFormat
    response_codec: Callable[[int], Codec]
    parameters: Callable[[Decoded], Mapping[str, Any]]


class OperationHandler:
    """Handles the requests of one operation, as an ASGI application and as a function of a request.

    Parameters
    ----------
    operation : Operation
    settings : Settings
    """

    def __init__(self, operation: Operation, settings: Settings) -> None:
        self.operation = operation
        self._settings = settings
        self._readable, self._writable = readable_codecs(operation), writable_codecs()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope, receive)
        try:
            response = await self.respond(request)
        except Exception as error:  # noqa: BLE001  (each gets the response that its kind has)
            response = error_response(request, error)
            _forget_frames(error)
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
                lambda results: response_codec(accept, read_as.codec, results),
                lambda decoded: merged(query, decoded.parameters),
            )

        return await self.answer(request, headers, exchange)

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
            call = _Call(self.operation, chosen, headers, body, coding, ticket, settings)
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
        work, inflated = call.decoding_work(content), self._settings.max_decompressed_bytes
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


def new_ticket(request: Request) -> Ticket:
    """Return a ticket for a request; its client is the last address that is known of it."""
    client = request.scope.get("client")
    return Ticket(request.app.state.admission, client[0] if client else "")


def _forget_frames(error: BaseException | None) -> None:
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
    codec: Codec
    memory: int
    work: int


@dataclass(slots=True)
class _Call:
    """One request whose body was read."""

    operation: Operation
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
        plan = self.operation.known_plan(content.parameters, content.decoded.tensors)
        if plan is None or not _is_small(plan):
            return None
        job = self._job(plan, content.decoded)
        if job.codec.compressible and self._response_coding(MIN_COMPRESSED_BYTES):
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
        job = self._job(self.operation.plan(content.parameters, content.decoded.tensors), content.decoded)
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
        context = RequestContext(self.operation.operand_names, read_as.options, self.headers)
        body: Body = self.body
        if self.coding:
            limit = min(body_limit(read_as.codec, self.settings), decompressed_bytes)
            body = decompressed(body, self.coding, limit, self.ticket.charge)
        decoded = read_as.codec.decode(body, context, Limits(decompressed_bytes, self.ticket.charge))
        return _Content(decoded, self.exchange.parameters(decoded))

    def _job(self, plan: Plan, decoded: Decoded) -> _Job:
        prediction = plan.prediction
        codec = self.exchange.response_codec(len(prediction.results))
        text = codec.response_memory(prediction.results, decoded.response_options)
        check_budget(prediction, text, self.settings)
        memory = prediction.result_bytes + prediction.workspace_bytes + text
        work = prediction.work + memory * WORK_PER_BYTE_OF_MEMORY + text * WORK_PER_SLOW_BYTE
        return _Job(plan, decoded, codec, memory, work)

    def _response(self, job: _Job) -> BufferResponse:
        prediction, decoded, codec = job.plan.prediction, job.decoded, job.codec
        self.ticket.charge(job.memory)
        results = self.operation.compute(job.plan.call, self.operation.with_types(decoded.tensors))
        context = ResponseContext(decoded.response_options, self.operation.name, prediction.parameters)
        encoded = codec.encode(results, context)
        headers = {PARAMETERS_HEADER: prediction.parameters_text, **encoded.headers}
        buffers: Sequence[Buffer] = encoded.buffers
        if codec.compressible:
            headers |= VARY
            coding = self._response_coding(sum(memoryview(buffer).nbytes for buffer in buffers))
            if coding is not None:
                headers["Content-Encoding"] = coding
                buffers = compressed(buffers, coding, self.ticket.charge)
        return BufferResponse(buffers, codec.media_type, headers)

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


def body_limit(codec: Codec, settings: Settings) -> int:
    """Return the maximum size of a body in a format."""
    if codec.charset:  # text
        return min(settings.max_json_bytes, settings.max_body_bytes)
    return settings.max_body_bytes


def query_parameters(request: Request) -> dict[str, Any]:
    """Return the parameters in a request's query string."""
    return parse_text_parameters(request.query_params.multi_items()) if request.scope["query_string"] else {}


def merged(query: Mapping[str, Any], payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of the query string and of the body together.

    Raises
    ------
    InvalidRequest
        If one is given in both places.
    """
    payload = {name: value for name, value in payload.items() if value is not NOT_GIVEN or name not in query}
    twice = [name for name in query if name in payload]
    if twice:
        fault = "a parameter is given both in the query string and in the body"
        raise InvalidRequest(
            *(Finding.of(pointer_to(name), fault, got="two values", expected="one value") for name in twice)
        )
    return {**query, **payload}
