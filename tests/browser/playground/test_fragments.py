"""The state in the address: links that open the same picture, what teachers hide, and links that mean harm."""

from __future__ import annotations

import numpy as np
import pytest

from tests.browser.playground.behaviour import check_round_trip, conv_of
from tests.browser.playground.fragments import encoded, fragment_of, unpacked
from tests.browser.playground.layers import examples
from tests.browser.playground.playground import Playground

HACK = "<img src=x onerror='window.hacked = 1'>"
DEEP = encoded(b"\x01" + bytes([4, 0, 0xFB, 0xFF]) + b"[[[[")  # stored, not compressed: a list that does not end


@pytest.mark.parametrize("kind", ["conv", "max_pool", "unpool", "qlinear_conv"])
def test_a_link_opens_the_same_picture(playground: Playground, kind: str) -> None:
    (example,) = examples(1, [kind], seed=7)
    playground.open()
    playground.load_formulas()
    view = "grad_input" if "grad_input" in example.computed() else "forward"
    check_round_trip(playground, example, view=view)
    kept = unpacked(playground.fragment())
    for name, array in example.tensors.items():
        assert np.array_equal(kept[name], array)
    playground.assert_sound()


def test_a_link_keeps_numbers_that_json_has_no_word_for(shared: Playground) -> None:
    example = conv_of()
    example.tensors["input"].reshape(-1)[:4] = [np.nan, np.inf, -np.inf, -0.0]
    shared.go(fragment_of(example))
    shown = [shared.values()["input"][index] for index in range(4)]
    assert np.array_equal(shown, [np.nan, np.inf, -np.inf, 0.0], equal_nan=True)
    assert [cell.text for cell in shared.cells() if cell.tensor == "input"][:4] == ["NaN", "∞", "\N{MINUS SIGN}∞", "0"]
    output = example.computed()["output"].reshape(-1)
    assert np.array_equal([shared.values()["output"][index] for index in range(16)], output, equal_nan=True)


def test_rapid_changes_leave_the_address_of_the_last(shared: Playground) -> None:
    page = shared.page
    shared.go(fragment_of(conv_of(1, 0)))
    with shared.drawing():
        page.evaluate(
            """() => {
              const control = document.querySelector("#parameters [name=stride]");
              for (let stride = 1; stride <= 9; stride++) {
                control.value = String(stride % 4 || 1);
                control.dispatchEvent(new Event("input", { bubbles: true }));
              }
              control.dispatchEvent(new Event("change", { bubbles: true }));
            }"""
        )
    shared.await_picture()
    shared.await_address("!/stride=[23]/.test(hash)")
    shared.complaints.clear()  # requests that were given up
    assert list(shared.values()["output"].values()) == conv_of(1, 0).computed()["output"].reshape(-1).tolist()


def test_back_undoes_a_step(shared: Playground) -> None:
    page, example = shared.page, conv_of(2, 1)
    shared.go(fragment_of(example))
    with shared.drawing():
        page.locator("header [data-view=grad_weight]").click()
    assert "view=grad_weight" in shared.fragment()
    assert "grad_weight" in shared.values()
    with shared.drawing():
        page.go_back()
    assert "grad_weight" not in shared.values()
    assert list(shared.values()["output"].values()) == example.computed()["output"].reshape(-1).tolist()


@pytest.mark.parametrize(
    ("part", "selector"),
    [
        ("parameters", "#parameters"),
        ("formula", "#formula"),
        ("code", "[data-tab=code]"),
        ("examples", "#examples"),
        ("tabs", "#tabs"),
        ("header", "header"),
    ],
)
def test_a_teacher_hides_a_part(shared: Playground, part: str, selector: str) -> None:
    shared.go(fragment_of(conv_of()))
    assert shared.page.locator(selector).count() == 1
    shared.go(fragment_of(conv_of(), hide=part))
    assert shared.page.locator(selector).count() == 0
    assert shared.page.locator("#picture [role=gridcell]").count() > 0


def test_a_teacher_hides_the_answers(shared: Playground) -> None:
    """Neither the cells of the result nor their labels and attributes tell; the pupil can have them shown."""
    output = conv_of().computed()["output"].reshape(-1)
    shared.go(fragment_of(conv_of(), hide="answers"))
    page = shared.page
    cells = page.locator("#picture [data-tensor=output] [role=gridcell]")
    assert set(cells.all_inner_texts()) == {"?"}
    labels = cells.evaluate_all("cells => cells.map((cell) => cell.ariaLabel)")
    assert all(label.endswith("?") for label in labels)
    assert page.locator("#formula strong").count() == 0
    page.get_by_role("button", name="Show the answers").click()
    assert shared.values()["output"] == dict(enumerate(output.tolist()))


UNREADABLE = [
    f"#v1&op={HACK}",
    f"#v1&op=conv&view={HACK}",
    "#v1&op=__proto__",
    "#v1&op=conv&tab=../../docs",
    "#v1&op=conv&data=AAAA",
    "#v1&op=conv&data=%00",
    f"#v1&op=conv&data={DEEP}",
    "#v1&op=conv&stride=%",
    "#v2&op=conv",
    "#javascript:window.hacked=1",
    "#v1&op=conv&op=pool",
    "#" + "x" * 100_000,
]
READABLE = [
    f"#v1&op=conv&stride={HACK}",
    "#v1&op=conv&padding_mode=%3Cscript%3Ewindow.hacked=1%3C/script%3E",
    f"#v1&op=conv&hide={HACK}",
    "#v1&op=conv&cell=__proto__:1",
    "#v1&op=conv&__proto__=1",
    "#v1&op=conv&constructor=1",
    "#v1&op=conv&tab=__proto__",
    "#v1&op=conv&view=compare&by=__proto__",
    "#v1&op=conv&item=999999999",
    "#v1&op=conv&stride=" + "[" * 4000,
]


@pytest.mark.parametrize("fragment", UNREADABLE + READABLE, ids=lambda fragment: fragment[:40])
def test_a_hostile_link_does_nothing_bad(shared: Playground, fragment: str) -> None:
    """It is said in plain words what cannot be read; no script runs, and the page goes on."""
    page = shared.page
    shared.go(fragment)
    assert page.evaluate("window.hacked") is None
    assert page.locator("#page img, #page script").count() == 0
    if fragment in UNREADABLE:
        said = page.locator("#problem").inner_text().strip()
        assert said.endswith(".")
        assert not {"Error", "undefined", "null", "<img"} & set(said.split())
        assert page.locator("#picture [role=gridcell]").count() > 0
    expected = ("422", "refused", "ERR_ABORTED")  # what the service says to it, and what the page gave up
    assert [one for one in shared.complaints if not any(word in one for word in expected)] == []
    shared.complaints.clear()
    shared.go(fragment_of(conv_of()))
    assert page.locator("#problem").is_hidden()
    assert page.locator("#picture.stale").count() == 0
