"""Which requests are taken, and how much memory each may use.

Three rules keep one client from taking the service from the others:

- What a request will need is reserved before the memory is taken: for a large body its declared length, then what its
  computation is predicted to use. A request waits for that, but not for long.
- Large requests leave a share of the places and of the memory to small ones.
- Bodies that are still arriving leave half of the memory to computations: requests that hold their bodies and wait for
  memory to compute in would otherwise wait for each other.
"""

from __future__ import annotations

import asyncio
import collections
import enum
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ..problems import AddressLimit, Busy, NoMemory, NoPlace, TooLarge
from ..settings import Settings

__all__ = ["SMALL_BODY", "SMALL_REQUEST", "Admission", "Ticket"]

SMALL_BODY = 2**16
"""Bytes. A smaller body has no place while it arrives: many that drip, a byte a second, take nothing from others. A
request with a larger one is large."""

SMALL_REQUEST = 2**20
"""Bytes of body, workspace and results of a small request."""

PLACES_FOR_SMALL, MEMORY_FOR_SMALL = 4, 8
"""One in so many places, and one in so many bytes, are left to small requests."""

MEMORY_FOR_BODIES = 2
"""One in so many bytes may hold bodies that are not being computed; a body that is alone may take more."""


class _Queue(enum.IntEnum):
    """What a request waits for, in the order in which it is served."""

    COMPUTATION = 0
    SMALL = 1
    BODY = 2


class _Waiter(NamedTuple):
    attempt: Callable[[], bool]
    taken: asyncio.Future[None]


@dataclass
class _Use:
    """What one address has of the service."""

    places: int = 0
    memory: int = 0


class Admission:
    """The places and the memory of this process, and the requests that wait for them.

    The limits of the settings are for all workers together: each has an equal part.

    Parameters
    ----------
    settings : Settings

    Attributes
    ----------
    places, max_places : int
        Requests in progress, and how many there may be.
    memory, max_memory : int
        Bytes reserved for them, and how many there may be.
    """

    def __init__(self, settings: Settings) -> None:
        self.lock = threading.Lock()
        self.max_places = max(1, settings.max_requests // settings.workers)
        self.max_memory = max(1, settings.max_memory_bytes // settings.workers)
        self.max_large_places = self.max_places - self.max_places // PLACES_FOR_SMALL
        self.max_large_memory = self.max_memory - self.max_memory // MEMORY_FOR_SMALL
        self.queue_timeout = settings.queue_timeout
        self.places = self.large_places = 0
        self.memory = self.large_memory = self.waiting_bodies = 0
        share = settings.max_share_per_address
        self._most_of_one = _Use(max(1, int(share * self.max_places)), int(share * self.max_memory))
        self._uses: weakref.WeakValueDictionary[str, _Use] | None = weakref.WeakValueDictionary() if share < 1 else None
        self._waiting: dict[_Queue, collections.deque[_Waiter]] = {queue: collections.deque() for queue in _Queue}

    def use(self, address: str) -> _Use | None:
        """Return what an address has, if there is a limit to it; all its tickets share it, and it ends with them."""
        if self._uses is None:
            return None
        use = self._uses.get(address)
        if use is None:
            self._uses[address] = use = _Use()
        return use

    def check_share(self, use: _Use | None, places: int, count: int) -> None:
        """Raise AddressLimit if an address would have more than its share."""
        if use is None:
            return
        most = self._most_of_one
        if use.places + places > most.places:
            got, expected = f"{use.places} requests in progress", f"fewer than {most.places}"
        elif use.memory + count > most.memory:
            got, expected = f"{use.memory} bytes in use", f"at most {most.memory} with this request's {count}"
        else:
            return
        fault, hint = "one address has a limited share of this server", "send fewer requests at a time"
        raise AddressLimit.of("", fault, got=got, expected=expected, hint=hint)

    async def wait(
        self, queue: _Queue, attempt: Callable[[], bool], refusal: Callable[[], Busy], seconds: float
    ) -> float:
        """Wait until an attempt succeeds; return the seconds that are left.

        Raises
        ------
        Busy
            If it does not in time.
        """
        comes_later = queue is _Queue.BODY and self._waiting[_Queue.COMPUTATION]
        if not (self._waiting[queue] or comes_later) and attempt():
            return seconds
        loop = asyncio.get_running_loop()
        waiter, deadline = _Waiter(attempt, loop.create_future()), loop.time() + seconds
        self._waiting[queue].append(waiter)
        try:
            async with asyncio.timeout_at(deadline):
                await waiter.taken
        except TimeoutError:
            raise refusal() from None
        finally:
            if waiter in self._waiting[queue]:
                self._waiting[queue].remove(waiter)
                self.serve()  # those behind it may need less
        return deadline - loop.time()

    def serve(self) -> None:
        """Let those in whose attempt succeeds now; to be called when a request has given something back."""
        for queue, waiting in self._waiting.items():
            if queue is _Queue.BODY and self._waiting[_Queue.COMPUTATION]:
                return  # new bodies would take what these wait for
            while waiting and (waiting[0].taken.done() or waiting[0].attempt()):
                waiter = waiting.popleft()
                if not waiter.taken.done():  # one that gave up is done
                    waiter.taken.set_result(None)


class Ticket:
    """One request's place among those in progress, and the memory that is reserved for it.

    ``take_place``, ``admit_body`` and ``reserve`` wait, on the event loop; ``charge`` may be called on any thread.

    Parameters
    ----------
    admission : Admission
    address : str
        Of the client.
    """

    __slots__ = ("_admission", "_body", "_has_place", "_is_large", "_memory", "_seconds", "_unused", "_use")

    def __init__(self, admission: Admission, address: str = "") -> None:
        self._admission = admission
        self._use = admission.use(address)
        self._seconds = admission.queue_timeout
        self._has_place = self._is_large = False
        self._memory = self._unused = self._body = 0

    @property
    def waited(self) -> float:
        """Seconds that the request has waited."""
        return self._admission.queue_timeout - self._seconds

    async def take_place(self) -> None:
        """Take a place, unless there is one, for a request whose body has arrived.

        Raises
        ------
        NoPlace, AddressLimit
        """
        if not self._has_place:
            self._admission.check_share(self._use, 1, 0)
            await self._wait(_Queue.SMALL, self._place_taken, self._no_place)

    async def admit_body(self, count: int) -> None:
        """Take a place, unless there is one, and reserve memory for (more of) a large body.

        Raises
        ------
        NoPlace, NoMemory, AddressLimit, TooLarge
        """
        admission = self._admission
        self._require_possible(count, large=True)
        admission.check_share(self._use, not self._has_place, count)

        def attempt() -> bool:
            with admission.lock:
                others = admission.waiting_bodies - self._body
                if others and others + self._body + count > admission.max_memory // MEMORY_FOR_BODIES:
                    return False
                if not (self._has_place or self._can_take_place(large=True)) or not self._fits(count, large=True):
                    return False
                self._become_large()
                if not self._has_place:
                    self._take_place()
                self._take(count)
                self._body += count
                admission.waiting_bodies += count
            return True

        def refusal() -> Busy:
            return self._no_memory(count) if self._has_place or self._can_take_place(large=True) else self._no_place()

        await self._wait(_Queue.BODY, attempt, refusal)

    async def reserve(self, count: int) -> None:
        """Reserve memory for a computation, so that this much can be charged.

        Raises
        ------
        NoMemory, AddressLimit, TooLarge
        """
        needed = count - self._unused
        self._require_possible(needed)
        self._admission.check_share(self._use, 0, needed)
        attempt, refusal = (lambda: self.reserved_at_once(count)), (lambda: self._no_memory(needed))
        is_small = not self._is_large and self._memory + needed <= SMALL_REQUEST
        queue = _Queue.SMALL if is_small else _Queue.COMPUTATION
        await self._wait(queue, attempt, refusal)

    async def _wait(self, queue: _Queue, attempt: Callable[[], bool], refusal: Callable[[], Busy]) -> None:
        try:
            self._seconds = await self._admission.wait(queue, attempt, refusal, self._seconds)
        except Busy:
            self._seconds = 0.0
            raise

    def reserved_at_once(self, count: int) -> bool:
        """Reserve memory for a computation if it is free, and return whether it was."""
        needed = max(0, count - self._unused)
        with self._admission.lock:
            becomes_large = not self._is_large and self._memory + needed > SMALL_REQUEST
            if becomes_large and self._admission.large_places >= self._admission.max_large_places:
                return False
            if not self._fits(needed):
                return False
            self._take(needed)
            self._admission.waiting_bodies -= self._body
            self._body = 0
        return True

    def charge(self, count: int) -> None:
        """Charge memory that is about to be taken: what was reserved, or more of what is free.

        Raises
        ------
        NoMemory, AddressLimit, TooLarge
        """
        with self._admission.lock:
            more = count - self._unused
            if more > 0:
                self._require_possible(more)
                self._admission.check_share(self._use, 0, more)
                if not self._fits(more):
                    raise self._no_memory(more)
                self._take(more)
            self._unused -= count

    def keep_only(self, count: int) -> None:
        """Give back the place, and the memory but for so much: what is left is to send the response.

        A client that takes it slowly keeps no place from others.
        """
        admission = self._admission
        with admission.lock:
            freed = max(0, self._memory - count)
            self._memory -= freed
            self._unused = 0
            admission.memory -= freed
            admission.waiting_bodies -= self._body
            self._body = 0
            admission.places -= self._has_place
            if self._is_large:
                admission.large_memory -= freed
                admission.large_places -= self._has_place
            if self._use is not None:
                self._use.memory -= freed
                self._use.places -= self._has_place
            self._has_place = False
        admission.serve()

    def give_back(self) -> None:
        """Give back the place and the memory; to be called on the event loop."""
        self.keep_only(0)
        self._is_large = False

    def _fits(self, count: int, *, large: bool = False) -> bool:
        admission = self._admission
        if admission.memory + count > admission.max_memory:
            return False
        if not (large or self._is_large) and self._memory + count <= SMALL_REQUEST:
            return True
        return admission.large_memory + count + (0 if self._is_large else self._memory) <= admission.max_large_memory

    def _take(self, count: int) -> None:
        admission = self._admission
        self._memory += count
        self._unused += count
        admission.memory += count
        if self._use is not None:
            self._use.memory += count
        if self._is_large:
            admission.large_memory += count
        elif self._memory > SMALL_REQUEST:
            self._become_large()

    def _become_large(self) -> None:
        if not self._is_large:
            self._is_large = True
            self._admission.large_memory += self._memory
            self._admission.large_places += self._has_place

    def _place_taken(self) -> bool:
        with self._admission.lock:
            if not self._can_take_place(large=self._is_large):
                return False
            self._take_place()
        return True

    def _can_take_place(self, *, large: bool) -> bool:
        admission = self._admission
        if large and admission.large_places >= admission.max_large_places:
            return False
        return admission.places < admission.max_places

    def _take_place(self) -> None:
        self._has_place = True
        self._admission.places += 1
        self._admission.large_places += self._is_large
        if self._use is not None:
            self._use.places += 1

    def _require_possible(self, count: int, *, large: bool = False) -> None:
        """Raise TooLarge if a request needs more than it can ever have."""
        total = self._memory + count
        is_large = large or self._is_large or total > SMALL_REQUEST
        most = self._admission.max_large_memory if is_large else self._admission.max_memory
        if total > most:
            fault, expected = "the request needs more memory than this server may use for one", f"at most {most} bytes"
            hint = "the operator sets CONVPOOL_MAX_MEMORY_BYTES"
            raise TooLarge.of("", fault, got=f"{total} bytes", expected=expected, hint=hint)

    def _no_place(self) -> NoPlace:
        admission = self._admission
        got, expected = f"{admission.places} requests in progress", f"fewer than {admission.max_places}"
        if admission.places < admission.max_places:
            got, expected = f"{admission.large_places} large requests", f"fewer than {admission.max_large_places}"
        return NoPlace.busy(got, expected)

    def _no_memory(self, count: int) -> NoMemory:
        expected = f"at most {self._admission.max_memory} with this request's {count}"
        refusal = NoMemory.busy(f"{self._admission.memory} bytes in use", expected)
        refusal.needed = count
        return refusal
