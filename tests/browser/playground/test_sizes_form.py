"""The form of sizes: what is typed, shown and told."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.playground.forms import Forms

TIMES = "\N{MULTIPLICATION SIGN}"


def test_sizes_are_named_by_their_axes(forms_page: Page) -> None:
    def labels() -> list[str]:
        return [text.replace(f" {TIMES} ", ", ") for text in forms_page.locator("#sizes .axes").all_inner_texts()]

    Forms(forms_page, "conv")
    assert labels() == ["N, H, W, C", "kernel H, kernel W, C/groups, C_out", "C_out"]
    Forms(forms_page, "conv", parameters={"data_format": "NCW", "spatial_axes": 1})
    assert labels()[:2] == ["N, C, W", "C_out, C/groups, kernel W"]


def test_a_size_changes_the_operands(forms_page: Page) -> None:
    forms = Forms(forms_page, "conv")
    forms.control("size:input").fill(f"2{TIMES}4x 5 X3")
    assert forms.shapes() == {"input": "2x4x5x3", "weight": "2x2x3x1", "bias": "1"}
    expect(forms.control("size:input")).to_have_value(f"2{TIMES}4x 5 X3")
    expect(forms.control("size:weight")).to_have_value("2x2x3x1")


def test_a_size_on_its_way_costs_no_values(forms_page: Page) -> None:
    forms = Forms(forms_page, "conv")
    before = forms.settled()
    control = forms.control("size:input")
    control.focus()
    for text in ("1x3x3x", "1x3x3x12", "1x3x3x1", "1x1x3x1", "1x1x1x1", "1x3x3x1"):
        control.fill(text)
    assert forms.settled()["tensors"] == before["tensors"]


def test_another_rank_is_taken_when_it_is_whole(forms_page: Page) -> None:
    forms = Forms(forms_page, "conv")
    control = forms.control("size:input")
    control.fill("")
    control.press_sequentially("1x6x4")
    assert forms.shapes()["input"] == "1x3x3x1"
    control.press("Enter")
    assert forms.shapes() == {"input": "1x6x4", "weight": "2x4x1", "bias": "1"}
    assert forms.parameter("spatial_axes") == 1


@pytest.mark.parametrize("text", ["1x3x3x", "a", "1x-3x3x1", "", "1x3.5x3x1", "1x9999999x9x9", "1x1024x1024x2"])
def test_a_size_that_is_none_is_not_taken(forms_page: Page, text: str) -> None:
    forms = Forms(forms_page, "conv")
    control = forms.control("size:input")
    control.fill(text)
    assert not control.evaluate("(one) => one.validity.valid")
    control.blur()
    assert forms.shapes()["input"] == "1x3x3x1"
    expect(control).to_have_value("1x3x3x1")
    assert control.evaluate("(one) => one.validity.valid")


def test_an_optional_operand_comes_and_goes(forms_page: Page) -> None:
    forms = Forms(forms_page, "conv")
    forms.control("size:weight").fill("2x2x1x3")
    box = forms_page.get_by_role("checkbox", name="with bias")
    expect(box).to_be_checked()
    box.uncheck()
    assert forms.shapes() == {"input": "1x3x3x1", "weight": "2x2x1x3"}
    expect(forms.control("size:bias")).to_be_disabled()
    box.check()
    assert forms.shapes()["bias"] == "3"
    expect(forms.control("size:bias")).to_have_value("3")


def test_one_value_may_become_one_for_each_channel(forms_page: Page) -> None:
    forms = Forms(forms_page, "qlinear_conv")
    control = forms.control("size:weight_scale")
    expect(control).to_have_value("")
    control.fill("1")
    control.press("Enter")
    assert forms.shapes()["weight_scale"] == "1"
    control.fill("")
    control.press("Enter")
    assert forms.shapes()["weight_scale"] == ""


def test_spatial_axes_and_dtype(forms_page: Page) -> None:
    forms = Forms(forms_page, "conv")
    forms.control("spatial_axes").select_option("3")
    assert forms.shapes() == {"input": "1x3x3x3x1", "weight": "2x2x2x1x1", "bias": "1"}
    expect(forms.control("spatial_axes")).to_have_value("3")
    forms.control("dtype").select_option("float32")
    assert {one["dtype"] for one in forms.settled()["tensors"].values()} == {"float32"}
    Forms(forms_page, "conv_integer")
    expect(forms.control("dtype")).to_have_count(0)
