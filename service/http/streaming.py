"""Batches larger than a request: computed group by group while they arrive, and sent back.

A client that sends everything before it reads can be served only if the whole result fits into memory here, for
otherwise each side would wait for the other to read. So the result's size, which the head of the batch tells, decides
before anything is computed: up to a limit it is kept until the whole batch has come; beyond it, the client must have
said that it reads the result while it sends the batch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..codecs import CODECS, Buffer
from ..codecs.buffers import tensor_at, tensor_bytes
from ..codecs.media_types import FORM_DATA, NPY
from ..codecs.message import TensorType
from ..codecs.npy import NpyHead, npy_head
from ..operations.admission import Ticket
from ..operations.operation import Operation
from ..operations.scheduling import ComputePool
from ..operations.streams import BatchPlan, StreamTask, plan_batch
from ..problems import ClientGone, Finding, InvalidRequest, TooLarge, UnreadablePayload, UnsupportedMediaType
from ..settings import Settings
from .arriving import ArrivingBody, BatchFile, FormBeforeBatch, form_before_batch
from .body import disconnected
from .compression import request_coding
from .error_responses import error_response
from .handler import TIMINGS, WORK_PER_BYTE_OF_MEMORY, TaskHandler, forget_frames, new_ticket
from .headers import RequestHeaders
from .negotiation import refuse_unwritable, request_format
from .request_parameters import merged, query_parameters
from .responses import BREAK_OFF, PARAMETERS_HEADER, READ_ON, BufferResponse

__all__ = ["DUPLEX", "StreamHandler", "stream_codecs"]

DUPLEX = "duplex"
"""Name of the parameter by which a client says that it reads the result while it sends the batch."""

GROUPS_IN_USE = 2
"""Groups that are in memory at a time: one is computed, or its result sent, while the next arrives."""

PIECES_IN_USE = 2**21
"""Bytes of memory for what has arrived and is not in a group yet, and of copies of it."""


def stream_codecs(operation: Operation) -> tuple[Any, ...]:
    """Return the codecs that can hold a batch that is streamed."""
    read = CODECS[NPY].can_read(len(operation.required_operands), typed=False)
    return (CODECS[NPY], CODECS[FORM_DATA]) if read else (CODECS[FORM_DATA],)


class StreamHandler(TaskHandler):
    """Handles the streamed batches of one operation.

    Parameters
    ----------
    task : StreamTask
    settings : Settings
    """

    task: StreamTask

    def __init__(self, task: StreamTask, settings: Settings) -> None:
        super().__init__(task, settings, stream_codecs(task.operation), (CODECS[NPY],))

    async def respond(self, request: Request) -> Response:
        """Return the response: with the whole result, or one that computes the rest of it while it is sent."""
        headers = RequestHeaders(request.scope["headers"])
        ticket = new_ticket(request)
        groups: _Groups | None = None
        try:
            read_as = request_format(headers.get("content-type"), self._readable)
            refuse_unwritable(headers.get("accept") or None, self._writable)
            if request_coding(headers.get("content-encoding")):
                fault, expected = "a streamed batch is sent uncompressed", "no Content-Encoding"
                raise UnsupportedMediaType.of("", fault, got="a Content-Encoding", expected=expected)
            query = query_parameters(request)
            request.scope.setdefault("state", {})
            body = ArrivingBody(request, headers, self._settings)
            before = await self._before_batch(body, read_as.codec.media_type, read_as.options, ticket)
            parameters = merged(query, before.parameters)
            is_duplex = _is_duplex(parameters)
            head = await before.batch.head()
            plan = self._plan(parameters, before.operands, head, is_duplex=is_duplex)
            _require_length(body, read_as.codec.media_type, head)
            await ticket.take_place()
            memory = _memory(plan, head, is_duplex=is_duplex)
            await ticket.reserve(memory)
            ticket.charge(memory)
            groups = _Groups(self.task, plan, head, before, body, request, ticket)
            if is_duplex:
                response: Response = _DuplexResponse(plan, await groups.next(), groups, ticket)
            else:
                response = await self._whole(plan, groups, ticket)
        except BaseException:
            if groups is not None:
                groups.close()
            ticket.give_back()
            raise
        return response

    async def _before_batch(
        self, body: ArrivingBody, media_type: str, options: Mapping[str, str], ticket: Ticket
    ) -> FormBeforeBatch:
        if media_type == NPY:
            return FormBeforeBatch({}, {}, BatchFile(self.task.batch, body.pieces()))
        return await form_before_batch(
            body,
            options.get("boundary", ""),
            self.task.operand_names,
            self.task.batch,
            ticket,
            self._settings.max_body_bytes,
        )

    def _plan(
        self, parameters: Mapping[str, Any], operands: Mapping[str, NDArray[Any]], head: NpyHead, *, is_duplex: bool
    ) -> BatchPlan:
        name = self.task.batch
        missing = [each for each in self.task.operation.required_operands if each not in (*operands, name)]
        if missing:
            fault = f"{' and '.join(missing)} did not come before {name}"
            expected = f"all other operands and parameters, and then {name}"
            raise InvalidRequest(
                *(Finding.of(f"/{each}", fault, got=f"{name} first", expected=expected) for each in missing)
            )
        plan = plan_batch(self.task, parameters, operands, TensorType(head.shape, head.dtype), self._settings)
        if head.fortran_order:
            fault, hint = "a streamed batch has its images one after the other", "save np.ascontiguousarray of it"
            raise InvalidRequest.of(f"/{name}", fault, got="Fortran order", expected="C order", hint=hint)
        limit = self._settings.max_result_bytes
        if plan.output.nbytes > limit and not is_duplex:
            fault = "the result is larger than this server keeps until the batch has come"
            hint = (
                f"let the client read the result while it sends the batch, and say so with {DUPLEX}=true, or cut the "
                "batch into several requests"
            )
            expected = f"at most {limit} bytes"
            raise TooLarge.of("", fault, got=f"{plan.output.nbytes} bytes", expected=expected, hint=hint)
        return plan

    async def _whole(self, plan: BatchPlan, groups: _Groups, ticket: Ticket) -> BufferResponse:
        buffers: list[Buffer] = [npy_head(plan.output.shape, plan.output.dtype)]
        while (result := await groups.next()) is not None:
            buffers.append(result)
        groups.close()
        response = BufferResponse(buffers, NPY, _headers(plan))
        ticket.keep_only(response.size)
        response.release = ticket.give_back
        return response


class _Groups:
    """The groups of a batch: each is computed while the next one arrives.

    Parameters
    ----------
    task : StreamTask
    plan : BatchPlan
    head : NpyHead
    before : FormBeforeBatch
    body : ArrivingBody
    request : Request
    ticket : Ticket
    """

    def __init__(
        self,
        task: StreamTask,
        plan: BatchPlan,
        head: NpyHead,
        before: FormBeforeBatch,
        body: ArrivingBody,
        request: Request,
        ticket: Ticket,
    ) -> None:
        self._task, self._plan, self._head, self._body, self._ticket = task, plan, head, body, ticket
        self._operands, self._file, self._request = before.operands, before.batch, request
        self._pool: ComputePool = request.app.state.pool
        self._has_begun = False
        self._compute_seconds, self._began = 0.0, time.perf_counter()
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watching: asyncio.Future[None] | None = None
        self._arriving: AsyncIterator[memoryview] | None = self._arrivals()
        self._next = self._filling()

    async def next(self) -> Buffer | None:
        """Return the result of the next group, or None after the last one.

        Raises
        ------
        RequestProblem
            If the batch goes on or ends in a wrong way, or cannot be computed.
        """
        try:
            group = await self._next
            if group is None:
                return None
            self._next = self._filling()
            images = tensor_at(group, 0, self._head.dtype, (-1, *self._plan.image_shape))
            result = await self._computed(images)
        except ClientGone:
            if self._next.done() and not self._next.cancelled() and (error := self._next.exception()):
                raise error from None  # what is wrong with what came meanwhile
            raise
        finally:
            self._note_times()
        self._has_begun = True
        return result

    def close(self) -> None:
        """Wait for nothing any longer."""
        self._next.cancel()
        self._arriving = (
            None  # it refers to this: only the garbage collector, which comes rarely, would free its memory
        )
        if self._watching is not None:
            self._watching.cancel()

    async def _computed(self, images: NDArray[Any]) -> Buffer:
        plan, began = self._plan, 0.0

        def compute() -> Buffer:
            nonlocal began
            began = time.perf_counter()
            (result,) = self._task.operation.results_of(
                plan.call, {**self._operands, self._task.batch: images}
            ).values()
            # the next but one group arrives where these images are
            return tensor_bytes(result.copy() if np.may_share_memory(result, images) else result)

        predicted = plan.prediction
        work = predicted.work + (predicted.result_bytes + predicted.workspace_bytes) * WORK_PER_BYTE_OF_MEMORY
        try:
            return await self._pool.run(compute, work, self._gone, has_begun=self._has_begun)
        finally:
            self._compute_seconds += time.perf_counter() - began if began else 0.0

    def _filling(self) -> asyncio.Future[memoryview | None]:
        task = asyncio.ensure_future(_following(self._arriving))
        task.add_done_callback(self._on_filled)
        return task

    def _on_filled(self, filling: asyncio.Future[memoryview | None]) -> None:
        if not filling.cancelled() and filling.exception() is not None:
            self._stop_computing(filling)

    def _stop_computing(self, _: asyncio.Future[Any]) -> None:
        if not self._gone.done():
            self._gone.set_result(None)

    async def _arrivals(self) -> AsyncIterator[memoryview]:
        """Yield each group once it is here; the last one once the body has ended as it should."""
        plan = self._plan
        size = self._head.dtype.itemsize * int(np.prod(plan.image_shape, dtype=np.int64))
        buffers = [np.empty(plan.group * size, np.uint8).data for _ in range(GROUPS_IN_USE)]
        for number, start in enumerate(plan.groups):
            images = plan.size_of(start)
            group = buffers[number % GROUPS_IN_USE][: images * size]
            await self._file.fill(group)
            if start + images == plan.images:
                await self._end()
            yield group
        if not plan.images:
            await self._end()

    async def _end(self) -> None:
        await self._file.end()
        self._watching = asyncio.ensure_future(disconnected(self._request))
        self._watching.add_done_callback(self._stop_computing)

    def _note_times(self) -> None:
        receive, compute = self._body.waited, self._compute_seconds
        queue = max(0.0, time.perf_counter() - self._began - receive - compute)
        self._request.scope["state"][TIMINGS] = {"receive": receive, "queue": queue, "compute": compute}


class _DuplexResponse(Response):
    """A response whose rest is computed while it is sent, from a body whose rest is still to come.

    Its client knows from Content-Length whether it has all of it: what goes wrong from here on ends the connection.

    Parameters
    ----------
    plan : BatchPlan
    first : bytes-like, optional
        The result of the first group, so that much that may be wrong is known before the response begins.
    groups : _Groups
        The others.
    ticket : Ticket
        Given back once all is sent.
    """

    def __init__(self, plan: BatchPlan, first: Buffer | None, groups: _Groups, ticket: Ticket) -> None:
        self._head, self._first = npy_head(plan.output.shape, plan.output.dtype), first
        self._groups, self._ticket = groups, ticket
        self.status_code, self.background = 200, None
        length = len(self._head) + plan.output.nbytes
        fields = {"Content-Length": str(length), "Content-Type": NPY, **_headers(plan)}
        self.raw_headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in fields.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the response."""
        state = scope["state"]
        state.get(READ_ON, _ignore)()
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": self._head, "more_body": True})
            result, self._first = self._first, None
            while result is not None:
                # which waits until the client has taken the one before; our protocol ends its connection if it does not
                await send({"type": "http.response.body", "body": result, "more_body": True})
                result = await self._groups.next()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except BaseException as error:
            if isinstance(error, Exception):
                error_response(Request(scope), error)  # it goes nowhere, but is counted, and the log names it
            if BREAK_OFF not in state:
                raise
            state[BREAK_OFF]()
            if not isinstance(error, Exception):
                raise
            forget_frames(error)
        finally:
            self._groups.close()
            self._ticket.give_back()


async def _following(arriving: AsyncIterator[memoryview] | None) -> memoryview | None:
    return None if arriving is None else await anext(arriving, None)


def _ignore() -> None:
    """Do what another server than ours does."""


def _is_duplex(parameters: dict[str, Any]) -> bool:
    """Take out of the parameters whether the client reads while it sends."""
    value = parameters.pop(DUPLEX, False)
    if not isinstance(value, bool):
        fault = f"{DUPLEX} is true or false"
        raise InvalidRequest.of(f"/{DUPLEX}", fault, got="another value", expected="true or false")
    return value


def _require_length(body: ArrivingBody, media_type: str, head: NpyHead) -> None:
    """Raise UnreadablePayload if Content-Length already tells that the batch is not what its head says."""
    needed = head.size + head.data_bytes
    if media_type == NPY and body.length is not None and body.length != needed:
        fault = "Content-Length and the header of the npy file do not agree"
        raise UnreadablePayload.of("", fault, got=f"{body.length} bytes", expected=f"{needed} bytes")


def _memory(plan: BatchPlan, head: NpyHead, *, is_duplex: bool) -> int:
    """Return the memory that a stream takes from its head to its end."""
    images = head.dtype.itemsize * plan.group * int(np.prod(plan.image_shape, dtype=np.int64))
    results = GROUPS_IN_USE * plan.prediction.result_bytes if is_duplex else plan.output.nbytes
    return GROUPS_IN_USE * images + plan.prediction.workspace_bytes + results + PIECES_IN_USE


def _headers(plan: BatchPlan) -> Mapping[str, str]:
    return {PARAMETERS_HEADER: plan.prediction.parameters_text}
