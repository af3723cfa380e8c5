"""How the playground looks, and whether everybody can use it: axe, overlaps, cut text, screenshots."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.page import OUTPUT
from tests.browser.playground.access import serious
from tests.browser.playground.behaviour import conv_of
from tests.browser.playground.fragments import fragment_of
from tests.browser.playground.layers import Example, examples
from tests.browser.playground.layout import faults_of
from tests.browser.playground.playground import Playground

SIZES = {"phone": (375, 667), "lecture": (1024, 768), "desk": (1280, 900)}
SEEN = {  # each state is seen once in each scheme, and what is special to a screen there
    "phone": ["forward", "grad_weight", "code", "pool", "present", "problem"],
    "lecture": ["forward", "grad_input", "pool", "present", "present-backward"],
}
VIEWS = ["forward", "grad_input", "grad_weight", "grad_bias", "compare"]
TABS = ["code", "table", "overlap", "learn", "image", "errors"]


def padded_pool() -> Example:
    """Padding, ties, several channels and a batch."""
    drawn = examples(60, ["max_pool"], seed=12)
    return next(
        example
        for example in drawn
        if example.tensors["input"].ndim == 4 and min(example.tensors["input"].shape) > 1 and pads(example)
    )


def pads(example: Example) -> bool:
    return any(max(pair) > 0 for pair in example.parameters["padding"])


STATES = {
    **{view: fragment_of(conv_of(2, 1), view=view, cell="output:4" if view == "forward" else "") for view in VIEWS},
    **{tab: fragment_of(conv_of(), tab=tab) for tab in TABS},
    "present": fragment_of(conv_of(1, 1), cell="output:7") + "&present",
    "present-backward": fragment_of(conv_of(1, 1), view="grad_input", cell="grad_input:7") + "&present",
    "pool": fragment_of(padded_pool()),
    "problem": fragment_of(conv_of(stride=0)),
}


Screens = Callable[[str, str], Playground]


@pytest.fixture(scope="module")
def screens(browser: Browser, server_url: str) -> Iterator[Screens]:
    """Pages of each size, in light and dark: each is opened once."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def opened(size: str, scheme: str) -> Playground:
            width, height = SIZES[size]
            options: dict[str, Any] = {"viewport": {"width": width, "height": height}, "color_scheme": scheme}
            if size == "phone":
                options |= {"has_touch": True, "is_mobile": True}
            context = stack.enter_context(browser.new_context(**options))
            playground = Playground(stack.enter_context(context.new_page()), server_url)
            playground.open()
            return playground

        yield opened


def show(playground: Playground, state: str) -> None:
    playground.go(STATES[state])
    page = playground.page
    if state in TABS:
        expect(page.locator("#panel")).not_to_be_empty()
    page.wait_for_load_state("networkidle")


CASES = [
    (size, scheme, state) for scheme in ("light", "dark") for size in SIZES for state in SEEN.get(size, list(STATES))
]


@pytest.mark.parametrize(("size", "scheme", "state"), CASES, ids=["-".join(case) for case in CASES])
def test_nothing_overlaps_or_is_cut_off_and_axe_finds_nothing(
    screens: Screens, size: str, scheme: str, state: str
) -> None:
    playground = screens(size, scheme)
    show(playground, state)
    OUTPUT.mkdir(exist_ok=True)
    playground.page.screenshot(path=OUTPUT / f"playground-{state}-{size}-{scheme}.png", full_page=True)
    assert faults_of(playground.page) + serious(playground.page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
def test_a_dimmed_picture_can_be_read(screens: Screens, size: str, scheme: str) -> None:
    """With tints of both signs, padding, maxima, and a pinned cell and what is linked with it."""
    playground = screens(size, scheme)
    page, pool = playground.page, padded_pool()
    playground.go(fragment_of(pool, cell="output:0"))
    playground.await_picture()
    page.route("**/pool/*", lambda route: route.abort("connectionrefused"))
    page.evaluate("(fragment) => { location.hash = fragment; }", fragment_of(pool, view="grad_input", cell="output:0"))
    expect(page.locator("#unreachable")).to_be_visible()
    expect(page.locator("#picture.stale .lit").first).to_be_visible()
    page.wait_for_function("() => document.getAnimations().length === 0")  # until it is as dim as it becomes
    page.screenshot(path=OUTPUT / f"playground-dimmed-{size}-{scheme}.png", full_page=True)
    faults = faults_of(page) + serious(page)
    page.unroute("**/pool/*")
    playground.await_picture()
    playground.complaints.clear()  # of the requests that failed
    assert faults == []


def test_the_drawer_of_a_phone_covers_nothing(screens: Screens) -> None:
    playground = screens("phone", "light")
    show(playground, "forward")
    playground.page.locator("#drawer").tap()
    playground.page.screenshot(path=OUTPUT / "playground-drawer-phone-light.png", full_page=True)
    assert faults_of(playground.page) + serious(playground.page) == []
    playground.page.locator("#drawer").tap()
    expect(screens("desk", "light").page.locator("#drawer")).to_be_hidden()


def test_motion_is_reduced_where_that_is_asked_for(browser: Browser, server_url: str) -> None:
    with browser.new_context(reduced_motion="reduce") as context, context.new_page() as page:
        playground = Playground(page, server_url)
        playground.open(STATES["forward"])
        moving = page.evaluate(
            """() => [...document.querySelectorAll("*")].filter((element) => {
                const { transitionDuration, animationName, animationDuration } = getComputedStyle(element);
                const lasts = (durations) => durations.split(",").some((one) => parseFloat(one) > 0.01);
                return lasts(transitionDuration) || (animationName !== "none" && lasts(animationDuration));
            }).map((element) => element.outerHTML.slice(0, 80))"""
        )
        assert moving == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_marks_do_not_hang_on_colour_alone(screens: Screens, scheme: str) -> None:
    """A maximum is ringed, padding hatched and dotted, what lies under a window outlined."""
    playground = screens("desk", scheme)
    playground.go(fragment_of(padded_pool(), cell="output:0"))
    styles = playground.page.evaluate(
        """() => Object.fromEntries(["max", "padding", "lit"].map((name) => {
            const cell = document.querySelector(`#picture [data-tensor=input] .${name}`);
            const [own, ring] = [getComputedStyle(cell), getComputedStyle(cell, "::before")];
            return [name, [ring.borderTopStyle, own.borderTopStyle, own.backgroundImage, own.boxShadow].join(" ")];
        }))"""
    )
    assert "solid" in styles["max"]
    assert "dotted" in styles["padding"]
    assert "gradient" in styles["padding"]
    assert "inset" in styles["lit"]
