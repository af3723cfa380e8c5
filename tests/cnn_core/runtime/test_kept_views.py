"""Views that are kept with a thread's memory: as long as this is, no longer, and for nobody else."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnn_core import get_threads, set_threads
from cnn_core.runtime import workspace as module
from cnn_core.runtime.threads import run_blocks
from cnn_core.runtime.workspace import MAX_CACHED_VIEWS, MAX_KEPT_BYTES, Workspace
from tests.cnn_core.layers_in_blocks import BLOCK_BYTES, CATALOGUE, calls, fill_what_is_kept, same_bits
from tests.cnn_core.small_blocks import small_blocks
from tests.strategies import quick_settings

Array = NDArray[Any]

OF_ONE_LAYOUT = [
    "direct",
    "winograd",
    "fastest",
    "strided",
    "depthwise",
    "grouped, strided",
    "transposed",
    "3-D",
]


def keep_nothing() -> None:
    """Of a call that needed much, nothing is kept, nor of those before it."""
    with Workspace() as workspace:
        workspace.arrays((2 * MAX_KEPT_BYTES,), dtype=np.uint8)


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    """Neither of the tests before nor for those after."""
    keep_nothing()
    yield
    keep_nothing()


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Any]]:
    """All that is made from now on."""
    made: list[weakref.ref[Any]] = []
    original = Workspace.cached

    def noted(self: Workspace, key: Hashable, make: Callable[[], Any]) -> Any:
        def making() -> Any:
            found = make()
            made.append(weakref.ref(found))
            return found

        return original(self, key, making)

    monkeypatch.setattr(Workspace, "cached", noted)
    return made


class Maker:
    """Makes views of a workspace's memory, and counts how often."""

    def __init__(self) -> None:
        self.keys: list[Hashable] = []

    def cached(self, workspace: Workspace, key: Hashable, elements: int = 100) -> Array:
        """Ask the workspace for what belongs to a key: so many bytes of memory."""

        def make() -> Array:
            self.keys.append(key)
            (view,) = workspace.arrays((elements,), dtype=np.uint8)
            return view

        return workspace.cached(key, make)


def place(array: Array) -> int:
    return int(array.ctypes.data)


# --------------------------------------------------------------------------------------------------- for how long


def test_what_was_made_is_kept_for_the_next_calls() -> None:
    maker = Maker()
    with Workspace() as workspace:
        first, other = maker.cached(workspace, "first"), maker.cached(workspace, ("other", 1))
        assert maker.cached(workspace, "first") is first
    for _ in range(3):
        with Workspace() as workspace:
            assert maker.cached(workspace, ("other", 1)) is other
            assert maker.cached(workspace, "first") is first
            (memory,) = workspace.arrays((100,), dtype=np.uint8)
            assert place(memory) == place(first)
    assert maker.keys == ["first", ("other", 1)]


def test_larger_memory_takes_views_of_the_smaller_one_away() -> None:
    maker = Maker()
    with Workspace() as workspace:
        old = weakref.ref(maker.cached(workspace, "view"))
        (larger,) = workspace.arrays((10_000,), dtype=np.uint8)
        assert old() is None  # which would keep the memory, too
        assert place(maker.cached(workspace, "view")) == place(larger)
    with Workspace() as workspace:
        (largest,) = workspace.arrays((100_000,), dtype=np.uint8)
        assert place(maker.cached(workspace, "view")) == place(largest)
    assert maker.keys == ["view"] * 3


def test_what_takes_larger_memory_is_itself_kept() -> None:
    maker = Maker()
    with Workspace() as workspace:
        maker.cached(workspace, "small")
        large = maker.cached(workspace, "large", 10_000)
        assert maker.cached(workspace, "large", 10_000) is large
        maker.cached(workspace, "small")
    with Workspace() as workspace:
        assert maker.cached(workspace, "large", 10_000) is large
        assert place(maker.cached(workspace, "small")) == place(large)
    assert maker.keys == ["small", "large", "small"]


@pytest.mark.parametrize(("elements", "is_kept"), [(MAX_KEPT_BYTES - 64, True), (MAX_KEPT_BYTES + 1, False)])
def test_views_of_much_memory_are_given_up_with_it(elements: int, is_kept: bool) -> None:
    maker = Maker()
    with Workspace() as workspace:
        view = weakref.ref(maker.cached(workspace, "view", elements))
        assert view() is not None
    assert (view() is not None) is is_kept
    for _ in range(2):
        with Workspace() as workspace:
            (memory,) = workspace.arrays((100,), dtype=np.uint8)
            assert place(maker.cached(workspace, "view")) == place(memory)
    assert maker.keys == (["view"] if is_kept else ["view", "view"])
    keep_nothing()
    assert view() is None


def test_an_error_on_the_way_leaves_nothing_behind() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    maker = Maker()
    with Workspace() as workspace:
        kept = maker.cached(workspace, "kept")
        with pytest.raises(ZeroDivisionError):
            workspace.cached("view", fail)
    with Workspace() as workspace:
        assert maker.cached(workspace, "kept") is kept
        maker.cached(workspace, "view")
    assert maker.keys == ["kept", "view"]


# ----------------------------------------------------------------------------------------------------------- how many


def test_the_oldest_make_room() -> None:
    maker = Maker()
    views: list[weakref.ref[Array]] = []
    with Workspace() as workspace:
        for number in range(MAX_CACHED_VIEWS + 5):
            views.append(weakref.ref(maker.cached(workspace, number)))
            assert sum(view() is not None for view in views) <= MAX_CACHED_VIEWS
    assert [number for number, view in enumerate(views) if view() is None] == list(range(5))
    with Workspace() as workspace:
        for number in reversed(range(5, MAX_CACHED_VIEWS + 5)):
            maker.cached(workspace, number)
        assert maker.keys == list(range(MAX_CACHED_VIEWS + 5))
        maker.cached(workspace, 0)
        assert maker.keys[-1] == 0
        assert sum(view() is not None for view in views) == MAX_CACHED_VIEWS - 1


@pytest.mark.usefixtures("_one_thread")
def test_layers_of_many_layouts_leave_few_views(spied: list[weakref.ref[Any]]) -> None:
    fill_what_is_kept()  # in memory that is enough for all of them, and stays
    with small_blocks(2**11):
        for name in CATALOGUE:
            calls(name)()
            assert sum(view() is not None for view in spied) <= MAX_CACHED_VIEWS
    assert len(spied) > 2 * MAX_CACHED_VIEWS


# ------------------------------------------------------------------------------------------------------------ whose


def test_a_call_within_a_call_has_views_of_its_own() -> None:
    maker = Maker()
    with Workspace() as outer:
        mine = maker.cached(outer, "view")
        with Workspace() as inner:
            assert not np.may_share_memory(maker.cached(inner, "view"), mine)
        assert maker.cached(outer, "view") is mine
    assert maker.keys == ["view", "view"]


operations = st.lists(
    st.tuples(
        st.sampled_from(["made", "made", "made", "arrays", "enter", "leave"]),
        st.integers(0, 4),
        st.sampled_from([1, 60, 300, 1000]),
    ),
    max_size=40,
)


@settings(quick_settings, max_examples=200)
@given(operations)
def test_every_view_is_of_the_memory_that_its_workspace_has(drawn: list[tuple[str, int, int]]) -> None:
    """Whatever was taken in between, by this call, those before, or those within it."""
    maker = Maker()
    within: list[Workspace] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_KEPT_BYTES", 700)
        patch.setattr(module, "MAX_CACHED_VIEWS", 3)
        for operation, number, elements in drawn:
            if operation == "enter" or not within:
                within.append(Workspace().__enter__())
            elif operation == "leave":
                within.pop().__exit__()
            elif operation == "arrays":
                within[number % len(within)].arrays((elements,), dtype=np.uint8)
            else:
                workspace = within[number % len(within)]
                view = maker.cached(workspace, (number, elements), elements)
                assert view.shape == (elements,)
                (memory,) = workspace.arrays((elements,), dtype=np.uint8)
                assert place(memory) == place(view)
                others = [other.arrays((1,), dtype=np.uint8)[0] for other in within if other is not workspace]
                assert not any(np.may_share_memory(view, other) for other in others)
        while within:
            within.pop().__exit__()


def test_threads_have_views_of_their_own() -> None:
    found: list[list[Array]] = []
    barrier = threading.Barrier(3)

    def take() -> None:
        maker, mine = Maker(), []
        for _ in range(3):
            with Workspace() as workspace:
                mine.append(maker.cached(workspace, "view"))
                barrier.wait(60)
        assert maker.keys == ["view"]
        found.append(mine)

    threads = [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert all(view is mine[0] for mine in found for view in mine)
    views = [mine[0] for mine in found]
    for number, view in enumerate(views):
        assert not any(np.may_share_memory(view, other) for other in views[:number])


def test_a_block_never_gets_what_another_thread_made() -> None:
    """However often threads come and go, and with an answer from two of them at least in every call."""
    both = threading.Barrier(2)
    before = get_threads()

    def make_worker(workspace: Workspace) -> Callable[[int], None]:
        def compute(number: int) -> None:
            if number < 2:
                both.wait(60)  # the first two blocks go to different threads
            maker, (mine,) = workspace.cached(
                "view", lambda: (threading.current_thread(), workspace.arrays((8,), dtype=int))
            )
            assert maker is threading.current_thread()
            mine[...] = number
            assert (mine == number).all()

        return compute

    try:
        for count in (2, 4, 2, 3):
            set_threads(count)  # ends the threads there were
            for _ in range(5):
                run_blocks(range(20), make_worker)
    finally:
        set_threads(before)


# --------------------------------------------------------------------------------------------------------- who wrote


def test_memory_is_taken_by_one_user_after_the_other() -> None:
    first, second = object(), object()
    with Workspace() as workspace:
        assert workspace.claim(first)
        assert not workspace.claim(first)
        assert workspace.claim(second)
        assert workspace.claim(first)
        assert not workspace.claim(first)
        with Workspace() as inner:
            assert inner.claim(first)
        assert not workspace.claim(first)
    with workspace:
        assert workspace.claim(first)
    with Workspace() as workspace:
        assert workspace.claim(first)


@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("name", CATALOGUE)
def test_a_layer_that_finds_its_views_computes_the_same(name: str) -> None:
    """Their memory holds NaN everywhere by then, where the padding was too."""
    fill_what_is_kept()
    with small_blocks(2**20):  # their real size
        compute = calls(name)
        first = [array.copy() for array in compute()]
        fill_what_is_kept()
        again = compute()
    assert same_bits(again, first)


@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("name", OF_ONE_LAYOUT)
def test_a_layer_makes_its_views_once(name: str, spied: list[weakref.ref[Any]]) -> None:
    fill_what_is_kept()
    compute = calls(name)
    compute()
    assert 0 < len(spied) <= MAX_CACHED_VIEWS
    spied.clear()
    fill_what_is_kept()
    compute()
    assert not spied


@pytest.fixture(scope="module")
def expected() -> dict[str, list[Array]]:
    """Of each layer what it gives by itself."""
    results = {}
    for name in CATALOGUE:
        keep_nothing()
        with small_blocks(BLOCK_BYTES):
            results[name] = calls(name)()
    return results


@pytest.mark.usefixtures("_one_thread")
@settings(quick_settings, max_examples=25)
@given(st.lists(st.tuples(st.sampled_from(CATALOGUE), st.booleans()), min_size=2, max_size=12))
def test_layers_in_any_order_leave_each_other_alone(
    expected: dict[str, list[Array]], drawn: list[tuple[str, bool]]
) -> None:
    """One after the other in the same thread: each finds the views that it made, and others wrote to the memory."""
    with small_blocks(BLOCK_BYTES):
        for name, is_filled in [*drawn, *drawn[::-1]]:
            assert same_bits(calls(name)(), expected[name]), name
            if is_filled:
                fill_what_is_kept()
