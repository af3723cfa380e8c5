"""Which requests are taken: shares for small ones, memory that is reserved before it is taken, and bounded waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.operations.admission import SMALL_REQUEST, Admission, Ticket
from service.problems import AddressLimit, Busy, NoMemory, NoPlace, TooLarge
from service.settings import MEBIBYTE, Settings

SOON, LATE = 0.02, 20.0
"""Seconds: a wait that is over at once, and one that only a fault lets pass."""


def admission(**options: Any) -> Admission:
    return Admission(Settings(**{"queue_timeout": SOON, **options}))


def run(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), LATE))


def test_large_requests_leave_places_and_memory_to_small_ones() -> None:
    async def story() -> None:
        limits = admission(max_requests=8, max_memory_bytes=80 * MEBIBYTE)
        large = [Ticket(limits) for _ in range(7)]
        for ticket in large[:6]:
            await ticket.admit_body(5 * MEBIBYTE)
            await ticket.reserve(11 * MEBIBYTE)
        with pytest.raises(NoPlace):
            await large[6].admit_body(1)
        small = [Ticket(limits) for _ in range(2)]
        for ticket in small:
            ticket.charge(SMALL_REQUEST)
            await ticket.take_place()

    run(story)


def test_memory_is_left_to_small_requests() -> None:
    async def story() -> None:
        limits = admission(max_memory_bytes=80 * MEBIBYTE)
        await Ticket(limits).admit_body(70 * MEBIBYTE)
        with pytest.raises(NoMemory):
            await Ticket(limits).admit_body(2 * MEBIBYTE)
        for _ in range(10):
            Ticket(limits).charge(SMALL_REQUEST)
        with pytest.raises(NoMemory):
            Ticket(limits).charge(1)

    run(story)


def test_a_request_that_could_never_have_its_memory_is_too_large() -> None:
    async def story() -> None:
        limits = admission(max_memory_bytes=80 * MEBIBYTE)
        with pytest.raises(TooLarge, match="CONVPOOL_MAX_MEMORY_BYTES"):
            await Ticket(limits).admit_body(71 * MEBIBYTE)
        ticket = Ticket(limits)
        await ticket.admit_body(40 * MEBIBYTE)
        with pytest.raises(TooLarge):
            await ticket.reserve(40 * MEBIBYTE + 31 * MEBIBYTE)
        with pytest.raises(TooLarge):
            ticket.charge(71 * MEBIBYTE)

    run(story)


def test_bodies_leave_half_of_the_memory_to_computations() -> None:
    async def story() -> None:
        limits = admission(max_memory_bytes=80 * MEBIBYTE)
        first, second = Ticket(limits), Ticket(limits)
        await first.admit_body(30 * MEBIBYTE)
        with pytest.raises(NoMemory):
            await second.admit_body(20 * MEBIBYTE)
        first.charge(30 * MEBIBYTE)
        await first.reserve(10 * MEBIBYTE)  # it is computed: its body no longer counts as one that waits
        await second.admit_body(20 * MEBIBYTE)

    run(story)


def test_one_body_may_take_more_than_half() -> None:
    async def story() -> None:
        await Ticket(admission(max_memory_bytes=80 * MEBIBYTE)).admit_body(60 * MEBIBYTE)

    run(story)


def test_who_waits_is_let_in_when_memory_is_given_back_and_in_order() -> None:
    async def story() -> None:
        limits, order = admission(max_memory_bytes=80 * MEBIBYTE, queue_timeout=LATE), []
        holder = Ticket(limits)
        await holder.admit_body(60 * MEBIBYTE)

        async def admitted(name: str, size: int) -> None:
            ticket = Ticket(limits)
            await ticket.admit_body(size * MEBIBYTE)
            order.append(name)
            ticket.give_back()

        waiting = []
        for name, size in (("larger", 40), ("smaller", 5)):
            waiting.append(asyncio.create_task(admitted(name, size)))
            await asyncio.sleep(0)
        assert not order
        holder.give_back()
        await asyncio.gather(*waiting)
        assert order == ["larger", "smaller"], "what fits is not let past what came before, which would wait for ever"
        assert limits.memory == limits.large_memory == limits.places == limits.large_places == 0

    run(story)


def test_computations_come_before_new_bodies() -> None:
    async def story() -> None:
        limits, order = admission(max_memory_bytes=80 * MEBIBYTE, queue_timeout=LATE), []
        holder, reader = Ticket(limits), Ticket(limits)
        await holder.admit_body(1)
        await holder.reserve(45 * MEBIBYTE)
        await reader.admit_body(20 * MEBIBYTE)
        reader.charge(20 * MEBIBYTE)

        async def take(name: str, step: Awaitable[None]) -> None:
            await step
            order.append(name)

        tasks = [asyncio.create_task(take("computation", reader.reserve(20 * MEBIBYTE)))]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(take("body", Ticket(limits).admit_body(5 * MEBIBYTE))))
        await asyncio.sleep(0)
        assert not order
        holder.give_back()
        await asyncio.gather(*tasks)
        assert order == ["computation", "body"]

    run(story)


def test_who_gives_up_waiting_lets_those_behind_pass() -> None:
    async def story() -> None:
        limits = admission(max_memory_bytes=80 * MEBIBYTE, queue_timeout=LATE)
        await Ticket(limits).admit_body(30 * MEBIBYTE)
        late = asyncio.create_task(Ticket(limits).admit_body(45 * MEBIBYTE))
        await asyncio.sleep(0)
        fits = asyncio.create_task(Ticket(limits).admit_body(5 * MEBIBYTE))
        await asyncio.sleep(0)
        assert not fits.done()
        late.cancel()
        await fits

    run(story)


def test_the_time_to_wait_is_one_for_all_waits_of_a_request() -> None:
    async def story() -> None:
        limits = admission(max_memory_bytes=80 * MEBIBYTE, queue_timeout=LATE)
        holder, ticket = Ticket(limits), Ticket(limits)
        await holder.admit_body(60 * MEBIBYTE)
        asyncio.get_running_loop().call_later(SOON, holder.give_back)
        await ticket.admit_body(40 * MEBIBYTE)
        assert SOON / 2 < ticket.waited < LATE / 2

    run(story)


def test_a_response_that_is_being_sent_has_no_place_but_its_memory() -> None:
    async def story() -> None:
        limits = admission(max_requests=1, max_memory_bytes=80 * MEBIBYTE)
        sending, next_one = Ticket(limits), Ticket(limits)
        await sending.admit_body(30 * MEBIBYTE)
        sending.keep_only(10 * MEBIBYTE)
        await next_one.take_place()
        assert (limits.places, limits.large_places, limits.memory) == (1, 0, 10 * MEBIBYTE)
        sending.give_back()
        assert (limits.places, limits.large_places, limits.memory) == (1, 0, 0)

    run(story)


def test_an_address_has_a_share() -> None:
    async def story() -> None:
        limits = admission(max_requests=8, max_memory_bytes=80 * MEBIBYTE, max_share_per_address=0.25)
        tickets = [Ticket(limits, "a") for _ in range(3)]
        for ticket in tickets[:2]:
            await ticket.take_place()
        with pytest.raises(AddressLimit, match="one address"):
            await tickets[2].take_place()
        with pytest.raises(AddressLimit):
            tickets[0].charge(21 * MEBIBYTE)
        await Ticket(limits, "b").take_place()
        tickets[0].give_back()
        await tickets[2].take_place()

    run(story)


def test_the_share_of_an_address_is_that_of_all_its_requests() -> None:
    """One that ends while the others have nothing yet does not let them begin a share of their own."""

    async def story() -> None:
        limits = admission(max_requests=8, max_share_per_address=0.25)
        ended, second = Ticket(limits, "a"), Ticket(limits, "a")
        ended.give_back()
        await second.take_place()
        await Ticket(limits, "a").take_place()
        third = Ticket(limits, "a")
        with pytest.raises(AddressLimit):
            await third.take_place()

    run(story)


def test_the_limits_are_those_of_all_workers_together() -> None:
    limits = admission(max_requests=64, max_memory_bytes=1024, workers=4)
    assert (limits.max_places, limits.max_memory) == (16, 256)


ACTIONS = st.one_of(
    st.tuples(st.just("body"), st.integers(0, 9), st.integers(0, 60)),
    st.tuples(st.just("place"), st.integers(0, 9), st.just(0)),
    st.tuples(st.just("reserve"), st.integers(0, 9), st.integers(0, 60)),
    st.tuples(st.just("charge"), st.integers(0, 9), st.integers(0, 60)),
    st.tuples(st.just("leave"), st.integers(0, 9), st.integers(0, 60)),
    st.tuples(st.just("end"), st.integers(0, 9), st.just(0)),
)


@settings(deadline=None)
@given(actions=st.lists(ACTIONS, max_size=60), share=st.sampled_from([0.3, 1.0]))
def test_no_limit_is_ever_exceeded(actions: list[tuple[str, int, int]], share: float) -> None:
    async def story() -> None:
        limits = admission(
            max_requests=5, max_memory_bytes=64 * MEBIBYTE, queue_timeout=1e-9, max_share_per_address=share
        )
        tickets = [Ticket(limits, f"{number % 3}") for number in range(10)]
        for action, number, size in actions:
            ticket, count = tickets[number], size * MEBIBYTE // 2
            try:
                if action == "body":
                    await ticket.admit_body(count)
                elif action == "place":
                    await ticket.take_place()
                elif action == "reserve":
                    await ticket.reserve(count)
                elif action == "charge":
                    ticket.charge(count)
                elif action == "leave":
                    ticket.keep_only(count)
                else:
                    ticket.give_back()
            except (Busy, TooLarge):
                pass
            assert 0 <= limits.large_places <= limits.places <= limits.max_places
            assert 0 <= limits.large_memory <= limits.memory <= limits.max_memory
            assert limits.large_memory <= limits.max_large_memory
            assert 0 <= limits.waiting_bodies <= limits.large_memory
        for ticket in tickets:
            ticket.give_back()
        assert limits.places == limits.large_places == limits.memory == limits.large_memory == 0
        assert limits.waiting_bodies == 0

    run(story)
