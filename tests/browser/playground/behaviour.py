"""What the playground must do over time, as functions that raise AssertionError where it does not."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import numpy as np
from playwright.sync_api import Error, Route, expect

from tests.browser.playground.fragments import fragment_of
from tests.browser.playground.layers import Example, integers
from tests.browser.playground.playground import Playground

OBSERVE = """() => {
  window.drawn = [];
  const number = (name) => Number(document.querySelector(`#parameters [name=${name}]`).value);
  new MutationObserver(() => {
    const picture = document.querySelector("#picture");
    if (!picture || picture.classList.contains("stale")) return;
    const output = [...picture.querySelectorAll("[data-tensor=output] [data-index]")];
    window.drawn.push({
      parameters: [number("stride"), number("padding")],
      output: output.map((cell) => Number(cell.dataset.value)),
    });
  }).observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
}"""


def conv_of(stride: Any = 1, padding: Any = 0, **more: Any) -> Example:
    """A convolution of always the same operands."""
    random = np.random.default_rng(5)
    tensors = {"input": integers(random, (1, 5, 5, 1)), "weight": integers(random, (2, 2, 1, 1))}
    parameters = {"data_format": "channels_last", "stride": stride, "padding": padding} | more
    return Example("conv", parameters, tensors)


def check_no_stale_answer_is_drawn(playground: Playground, seed: int) -> None:
    """However late answers come: what is drawn is dimmed, or of the parameters that the controls show.

    Answers are held back and let go in a random order while the fragment and the controls change.
    """
    page, random, held = playground.page, np.random.default_rng(seed), list[Route]()
    variants = {variant: conv_of(*variant) for variant in itertools.product((1, 2, 3), (0, 1, 2))}
    playground.go(fragment_of(variants[1, 0]))
    page.evaluate(OBSERVE)
    page.route("**/conv/*", lambda route: held.append(route))  # noqa: PLW0108 - playwright marks what it is given
    stride, padding = 1, 0
    for step in range(14):
        if step % 2:
            stride, padding = stride % 3 + 1, int(random.integers(3))
            page.evaluate("(fragment) => { location.hash = fragment; }", fragment_of(variants[stride, padding]))
            expect(page.locator("#parameters [name=padding]")).to_have_value(str(padding))
            expect(page.locator("#parameters [name=stride]")).to_have_value(str(stride))
        else:
            stride = int(random.integers(1, 4))
            page.locator("#parameters [name=stride]").fill(str(stride))
            playground.await_address(f"hash.includes('stride={stride}&')")
        for _ in range(int(random.integers(4))):
            page.wait_for_timeout(10)  # how far the page comes meanwhile makes for more orders
            if held:
                let_go(held.pop(int(random.integers(len(held)))))
    page.unroute("**/conv/*")
    for route in held:
        let_go(route)
    playground.await_picture()
    drawn = page.evaluate("window.drawn")
    for drawing in drawn:
        expected = variants[tuple(drawing["parameters"])].computed()["output"]
        assert drawing["output"] == expected.reshape(-1).tolist(), drawing["parameters"]
    assert drawn[-1]["parameters"] == [stride, padding], drawn[-1]
    assert playground.most_in_flight() == 1, playground.most_in_flight()


def let_go(route: Route) -> None:
    with contextlib.suppress(Error):  # the page may have given it up
        route.continue_()


def check_absence_is_said_and_survived(playground: Playground) -> None:
    """While the service does not answer that is said, the last picture stays, and the page goes on by itself."""
    page, before, after = playground.page, conv_of(1), conv_of(2, 1)
    playground.go(fragment_of(before))
    page.route("**/conv/*", lambda route: route.abort("connectionrefused"))
    page.evaluate("(fragment) => { location.hash = fragment; }", fragment_of(after))
    expect(page.locator("#unreachable")).to_be_visible()
    assert page.locator("#unreachable").inner_text().strip()
    assert page.locator("#picture.stale").count() == 1
    assert list(playground.values()["output"].values()) == before.computed()["output"].reshape(-1).tolist()
    page.unroute("**/conv/*")
    playground.await_picture()
    expect(page.locator("#unreachable")).to_be_hidden()
    assert list(playground.values()["output"].values()) == after.computed()["output"].reshape(-1).tolist()
    playground.complaints.clear()  # the browser's own, of the requests that failed


def check_problem(playground: Playground, example: Example) -> set[str]:
    """Each finding of a problem document stands at the control that its pointer names; returns the pointers."""
    page, good = playground.page, conv_of()
    playground.go(fragment_of(good))
    with page.expect_response(lambda response: response.status == 422) as refused:
        playground.go(fragment_of(example))
    findings = refused.value.json()["errors"]
    for finding in findings:
        where = page.locator(f'.problem[data-pointer="{finding["pointer"]}"]')
        expect(where).to_have_text(finding["message"])
        _, first, *rest = finding["pointer"].split("/")
        named = rest[0] if first == "shapes" else first
        name = f"size:{named}" if named in example.tensors else named
        control = page.locator(f'.field:has(.problem[data-pointer="{finding["pointer"]}"]) [name="{name}"]')
        assert control.count() == 1, (finding["pointer"], name)
        assert control.get_attribute("aria-invalid") == "true"
    assert page.locator("#picture.stale").count() == 1  # dimmed, never blank
    assert list(playground.values()["output"].values()) == good.computed()["output"].reshape(-1).tolist()
    playground.go(fragment_of(good))
    assert page.locator("#picture.stale").count() == 0
    assert page.locator(".problem").count() == 0
    playground.complaints.clear()  # the browser's own, of the response 422
    return {finding["pointer"] for finding in findings}


def check_round_trip(playground: Playground, example: Example, **more: str) -> None:
    """The fragment that the page writes opens the same picture on a new page."""
    page = playground.page
    playground.go(fragment_of(example, **more))
    last = page.locator("#picture [data-tensor]:last-of-type [data-index]").last
    tensor, index = last.locator("xpath=ancestor::table").get_attribute("data-tensor"), last.get_attribute("data-index")
    written = playground.fragment()
    last.click()
    playground.await_address("hash !== argument", written)
    fragment, cells, parameters = playground.fragment(), playground.cells(), playground.parameters()
    assert f"cell={tensor}:{index}" in fragment
    playground.open(fragment)
    assert playground.cells() == cells
    assert playground.parameters() == parameters
    assert playground.fragment() == fragment
