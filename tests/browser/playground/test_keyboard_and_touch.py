"""The playground without a mouse: by keyboard alone, and by touch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.playground.behaviour import conv_of
from tests.browser.playground.fragments import fragment_of, unpacked
from tests.browser.playground.playground import Playground

CONTROLS = """() => {
  const all = "a[href], button, input, select, textarea, summary, [tabindex='0']";
  const isReachable = (element) => !element.disabled && element.tabIndex >= 0
    && element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  const controls = [...document.querySelectorAll(all)].filter(isReachable);
  controls.forEach((element, index) => { element.dataset.reach = index; });
  return controls.map((element) => element.outerHTML.slice(0, 90));
}"""

FOCUSED = """() => {
  const element = document.activeElement;
  if (!element || element === document.body) return null;
  const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(element);
  const isMarked = (outlineStyle !== "none" && parseFloat(outlineWidth) > 0) || boxShadow !== "none";
  const box = element.getBoundingClientRect();
  const isInWindow = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
  return { reach: element.dataset.reach ?? null, html: element.outerHTML.slice(0, 90), isMarked, isInWindow };
}"""


@pytest.fixture
def opened(playground: Playground) -> Playground:
    playground.open(fragment_of(conv_of(1, 1)))
    playground.load_formulas()
    playground.page.mouse.move(0, 0)
    return playground


def test_tab_reaches_every_control_and_shows_where_it_is(opened: Playground) -> None:
    page = opened.page
    controls = page.evaluate(CONTROLS)
    assert len(controls) > 20
    reached: list[int] = []
    for _ in range(2 * len(controls)):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        if focused is None:
            break
        assert focused["isMarked"], focused
        assert focused["isInWindow"], focused
        if focused["reach"] is not None:
            reached.append(int(focused["reach"]))
    missing = [controls[index] for index in range(len(controls)) if index not in reached]
    assert missing == []
    assert reached == sorted(reached)


def test_each_grid_is_one_stop_and_the_arrows_walk_in_it(opened: Playground) -> None:
    page = opened.page
    for grid in page.locator("#picture [role=grid]").all():
        assert grid.locator("[role=gridcell][tabindex='0']").count() == 1
    opened.cell("output", 0).focus()
    for key, index in [("ArrowRight", 1), ("ArrowDown", 7), ("ArrowLeft", 6), ("ArrowUp", 0), ("End", 5), ("Home", 0)]:
        page.keyboard.press(key)
        assert here(opened) == [f"output:{index}"]
        assert page.locator("#formula .label").inner_text() == f"output[0, {index // 6}, {index % 6}, 0]"
        assert page.locator("#live").inner_text().startswith("output[0")
    page.keyboard.press("Control+End")
    assert here(opened) == ["output:35"]
    page.keyboard.press("ArrowRight")  # there is nothing further
    assert here(opened) == ["output:35"]


def here(playground: Playground) -> list[str]:
    return [f"{cell.tensor}:{cell.index}" for cell in playground.cells() if "here" in cell.classes]


def test_enter_pins_and_escape_lets_go(opened: Playground) -> None:
    page = opened.page
    opened.cell("output", 7).focus()
    page.keyboard.press("Enter")
    assert [cell.index for cell in opened.cells() if "pinned" in cell.classes] == [7]
    opened.await_address("hash.includes('cell=output:7')")
    opened.cell("output", 9).hover()
    assert here(opened) == ["output:7"]
    opened.cell("output", 7).focus()
    page.keyboard.press("Escape")
    assert [cell for cell in opened.cells() if "pinned" in cell.classes] == []
    opened.await_address("!hash.includes('cell=')")


def test_f2_edits_a_number(opened: Playground) -> None:
    page, example = opened.page, conv_of(1, 1)
    opened.cell("input", 3).focus()
    page.keyboard.press("F2")
    expect(page.locator(".editor")).to_be_focused()
    with opened.drawing():
        page.keyboard.type("-7")
        page.keyboard.press("Enter")
    example.tensors["input"].reshape(-1)[3] = -7
    assert opened.values()["output"] == dict(enumerate(example.computed()["output"].reshape(-1).tolist()))
    expect(opened.cell("input", 3)).to_be_focused()
    page.keyboard.press("F2")
    page.keyboard.type("9")
    page.keyboard.press("Escape")
    assert opened.values()["input"][3] == -7
    opened.await_address("hash.includes('data=')")
    assert unpacked(opened.fragment())["input"].reshape(-1)[3] == -7
    opened.cell("output", 3).focus()
    page.keyboard.press("F2")
    assert page.locator(".editor").count() == 0


def test_digits_choose_a_view(opened: Playground) -> None:
    page = opened.page
    views = ["forward", "grad_input", "grad_weight", "grad_bias", "compare"]
    opened.cell("input", 3).focus()
    for digit, view in reversed(list(enumerate(views, 1))):
        with opened.drawing():
            page.keyboard.press(str(digit))
        assert page.locator("header [role=tab][aria-selected=true]").get_attribute("data-view") == view
    page.locator("header [data-view=forward]").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("header [data-view=grad_input]")).to_be_focused()
    page.locator("#parameters [name=stride]").focus()
    with opened.drawing():
        page.keyboard.press("Control+A")
        page.keyboard.type("2")  # in a field a digit is a digit
    assert page.locator("header [role=tab][aria-selected=true]").get_attribute("data-view") == "forward"
    assert opened.parameters()["stride"] == "2"


def test_a_clicker_walks_through_the_cells(opened: Playground) -> None:
    page = opened.page
    page.locator("#present").click()
    page.wait_for_selector("html.present")
    page.keyboard.press("PageDown")
    assert here(opened) == ["output:0"]
    page.keyboard.press("PageDown")
    assert here(opened) == ["output:1"]
    page.keyboard.press("PageUp")
    assert here(opened) == ["output:0"]
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.wait_for_selector("html:not(.present)")


@pytest.fixture
def phone(browser: Browser, server_url: str) -> Iterator[Playground]:
    """A page that is touched."""
    options = {"viewport": {"width": 375, "height": 667}, "has_touch": True, "is_mobile": True}
    with browser.new_context(**options) as context, context.new_page() as page:
        yield Playground(page, server_url)


def test_a_tap_lights_the_window_and_pins(phone: Playground) -> None:
    page = phone.page
    phone.open(fragment_of(conv_of(1, 1)))
    phone.cell("output", 8).tap()
    page.wait_for_selector("#formula[data-value]")
    assert here(phone) == ["output:8"]
    lit = {cell.index for cell in phone.cells() if cell.tensor == "input" and "lit" in cell.classes}
    assert lit == {1, 2, 6, 7}
    phone.cell("input", 0).tap()
    assert here(phone) == ["input:0"]
    lit = {cell.index for cell in phone.cells() if cell.tensor == "output" and "lit" in cell.classes}
    assert lit == {0, 1, 6, 7}
    phone.cell("input", 0).tap()
    assert [cell for cell in phone.cells() if "pinned" in cell.classes] == []
    phone.assert_sound()


def test_the_parameters_are_a_drawer_on_a_phone(phone: Playground) -> None:
    page = phone.page
    phone.open(fragment_of(conv_of()))
    assert page.locator("#parameters [name=stride]").is_hidden()
    page.locator("#drawer").tap()
    expect(page.locator("#parameters [name=stride]")).to_be_visible()
    with phone.drawing():
        page.locator("#parameters [name=stride]").fill("2")
    expected = conv_of(2).computed()["output"].reshape(-1).tolist()
    assert list(phone.values()["output"].values()) == expected
    page.locator("#drawer").tap()
    expect(page.locator("#parameters [name=stride]")).to_be_hidden()
    with phone.drawing():
        page.evaluate("(fragment) => { location.hash = fragment; }", fragment_of(conv_of(stride=0)))
    expect(page.locator("#drawer")).to_contain_text("the service refuses one")  # whose sentence stands in the drawer
