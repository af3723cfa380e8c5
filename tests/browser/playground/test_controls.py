"""The forms of parameters: what is typed, shown and told."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from service.operations.catalogue import CATALOGUE
from tests.browser.playground.forms import Forms, Json

LAYERS = [entry.name for entry in CATALOGUE]

DESCRIPTION = """(control) =>
  control.getAttribute("aria-describedby").split(" ").map((id) => document.getElementById(id).innerText).join(" ")
"""


@pytest.mark.parametrize("op", LAYERS)
def test_every_parameter_and_operand_has_a_control_with_its_description(forms_page: Page, op: str) -> None:
    forms = Forms(forms_page, op)
    operation = forms_page.evaluate("(op) => layerOf(op).forward", op)
    mode = {"mode": "max"} if op == "pool" else {}
    described = operation["parameters"]["properties"] | {f"size:{one['name']}": one for one in operation["operands"]}
    for name, schema in described.items():
        only = schema.get("x-only-with", {})
        if all(mode.get(selector) in values for selector, values in only.items()):
            control = forms.control(name)
            expect(control).to_have_accessible_description(schema["description"])
            label = control.evaluate("(one) => one.labels[0].textContent")
            assert label.split()[0] == name.removeprefix("size:")
        else:
            expect(forms.control(name)).to_have_count(0)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("stride", "2", 2), ("stride", " 2 ", 2), ("stride", "2,1", [2, 1]), ("stride", "[2, 1]", [2, 1]),
        ("stride", "x2", "x2"), ("stride", "[2,", "[2,"), ("stride", "1e999", "1e999"), ("stride", "-1", -1),
        ("padding", "same", "same"), ("padding", "[[0,1],[1,0]]", [[0, 1], [1, 0]]), ("padding", "sam", "sam"),
        ("padding", "[0,1],[1,0]", [[0, 1], [1, 0]]), ("groups", "", "left out"), ("groups", "two", "two"),
    ],
)  # fmt: skip
def test_what_is_typed_is_the_parameter(forms_page: Page, name: str, text: str, value: Json) -> None:
    forms = Forms(forms_page, "conv", parameters={"groups": 1})
    control = forms.control(name)
    control.fill("")
    control.press_sequentially(text)
    assert forms.parameter(name) == value
    expect(control).to_have_value(text)
    expect(control).to_be_focused()


def test_each_keystroke_counts_and_the_caret_stays(forms_page: Page) -> None:
    forms = Forms(forms_page, "conv")
    control = forms.control("padding")
    control.fill("11")
    control.press("Home")
    control.press("ArrowRight")
    made = forms_page.evaluate("made.length")
    control.press_sequentially(",2,")
    assert forms.parameter("padding") == [1, 2, 1]
    assert [one["parameters"]["padding"] for one in forms_page.evaluate("made")[made:]] == [
        [1, 1], [1, 21], [1, 2, 1],
    ]  # fmt: skip
    assert control.evaluate("(one) => [one.value, one.selectionStart]") == ["1,2,1", 4]
    control.blur()
    forms_page.evaluate("draw()")
    expect(control).to_have_value("[1,2,1]")


def test_a_change_from_elsewhere_is_shown(forms_page: Page) -> None:
    forms = Forms(forms_page, "conv")
    control = forms.control("padding")
    control.fill("same")
    forms.settled()
    forms_page.evaluate("() => { state = { ...state, parameters: { padding: 3 } }; draw(); }")
    expect(control).to_have_value("3")
    forms_page.evaluate("() => { state = { ...state, parameters: {} }; draw(); }")
    expect(control).to_have_value("")
    expect(control).to_have_attribute("placeholder", "0")


def test_steps(forms_page: Page) -> None:
    forms = Forms(forms_page, "conv")
    less, more = (forms_page.get_by_role("button", name=f"{verb} dilation") for verb in ("decrease", "increase"))
    expect(less).to_be_disabled()
    more.click()
    more.click()
    assert forms.parameter("dilation") == 3
    less.click()
    assert forms.parameter("dilation") == 2
    expect(forms.control("dilation")).to_have_value("2")
    for button in (less, more):
        box = button.bounding_box()
        assert box is not None
        assert box["width"] >= 32
        assert box["height"] >= 32
    forms.control("dilation").press("ArrowUp")
    assert forms.parameter("dilation") == 3
    for text in ("[2,1]", "same", '"5"'):
        forms.control("dilation").fill(text)
        forms.settled()
        expect(more).to_be_disabled()
        expect(less).to_be_disabled()


def test_steps_from_what_the_service_makes_of_nothing(forms_page: Page) -> None:
    forms = Forms(forms_page, "pool", parameters={"mode": "avg", "stride": None}, resolved={"stride": [2, 2]})
    forms_page.get_by_role("button", name="increase stride").click()
    assert forms.parameter("stride") == 3
    forms_page.get_by_role("button", name="increase output_size").click()
    assert forms.parameter("output_size") == 1
    forms_page.locator("summary").click()
    forms_page.get_by_role("button", name="decrease divisor_override").click()
    assert forms.parameter("divisor_override") == -1
    forms_page.get_by_role("button", name="increase divisor_override").click()
    assert forms.parameter("divisor_override") == 1, "0 is no divisor"


def test_words_are_offered(forms_page: Page) -> None:
    forms = Forms(forms_page, "conv")
    words = forms.control("padding").evaluate("(one) => [...one.list.options].map(({ value }) => value)")
    assert words == ["valid", "same", "same_lower", "same_upper"]


def test_a_choice_names_its_default(forms_page: Page) -> None:
    forms = Forms(forms_page, "conv")
    control = forms.control("padding_mode")
    expect(control.locator("option")).to_have_text(["default (zeros)", "zeros", "reflect", "replicate", "circular"])
    control.select_option("circular")
    assert forms.parameter("padding_mode") == "circular"
    control.select_option("default (zeros)")
    assert forms.parameter("padding_mode") == "left out"
    forms_page.locator("summary").click()
    expect(forms.control("framework").locator("option")).to_have_text(
        ["default (none)", "torch", "tensorflow", "onnx", "jax"]
    )
    forms.control("framework").select_option("torch")
    forms.settled()
    expect(forms.control("data_format").locator("option").first).to_have_text("torch's default (channels_first)")
    assert forms.shapes()["input"] == "1x1x3x3"


def test_what_must_be_chosen_has_no_default(forms_page: Page) -> None:
    forms = Forms(forms_page, "pool")
    expect(forms.control("mode").locator("option")).to_have_text(["max", "avg", "lp"])
    expect(forms.control("mode")).to_have_value("max")


def test_a_value_that_is_no_choice_is_shown(forms_page: Page) -> None:
    forms = Forms(forms_page, "conv", parameters={"padding_mode": "mirror", "algorithm": 3})
    expect(forms.control("padding_mode")).to_have_value("mirror")
    expect(forms.control("algorithm")).to_have_value("3")
    expect(forms.control("algorithm")).to_be_visible()  # below "more", which is open for it


def test_yes_and_no(forms_page: Page) -> None:
    forms = Forms(forms_page, "pool", parameters={"mode": "avg"})
    control = forms.control("ceil_mode")
    control.check()
    assert forms.parameter("ceil_mode") is True
    control.uncheck()
    assert forms.parameter("ceil_mode") == "left out"
    forms = Forms(forms_page, "pool", parameters={"mode": "avg", "framework": "torch"})
    control = forms.control("count_include_pad")
    expect(control).to_be_checked()
    control.uncheck()
    assert forms.parameter("count_include_pad") is False
    expect(control).not_to_be_checked()
    control.check()
    assert forms.parameter("count_include_pad") == "left out"


def test_another_mode_has_other_controls(forms_page: Page) -> None:
    forms = Forms(forms_page, "pool", parameters={"ties": "all"})
    expect(forms.control("ties")).to_have_value("all")
    forms.control("mode").select_option("avg")
    assert forms.parameter("ties") == "left out"
    expect(forms.control("ties")).to_have_count(0)
    expect(forms.control("count_include_pad")).to_be_visible()
    forms.control("mode").select_option("lp")
    assert forms.parameter("mode") == "lp"
    expect(forms.control("count_include_pad")).to_have_count(0)
    expect(forms.control("norm_type")).to_have_attribute("placeholder", "2")


def test_what_the_service_made_of_a_parameter(forms_page: Page) -> None:
    forms = Forms(forms_page, "pool", parameters={"padding": "same", "stride": None})
    made = {"padding": [[0, 1], [0, 1]], "stride": [2, 2], "kernel_size": [2, 2], "dilation": [1, 1], "ties": "first"}
    forms.resolve(**made)
    notes = forms_page.locator(".resolved")
    expect(notes).to_have_text(["stride → [2,2]", "padding same → [[0,1],[0,1]]"])
    forms.control("padding").fill("0,1")
    forms.settled()
    expect(notes).to_have_text(["stride → [2,2]"])  # the service has not answered to the other yet
    forms.resolve(**made | {"padding": [[0, 0], [1, 2]]})
    expect(notes).to_have_text(["stride → [2,2]", "padding [0,1] → [[0,0],[1,2]]"])
    forms.resolve(padding=[[0, 0], [1, 1]])
    expect(notes).to_have_count(0)


# Problems


def test_a_problem_stands_at_its_control(forms_page: Page) -> None:
    forms = Forms(forms_page, "conv")
    found = {"/stride": "stride", "/padding/0/1": "padding", "/shapes/input": "size:input", "/weight": "size:weight",
             "/spatial_axes": "spatial_axes"}  # fmt: skip
    forms.problems(*((pointer, f"{name} is wrong") for pointer, name in found.items()), ("/stride", "and how"))
    for pointer, name in found.items():
        control, problem = forms.control(name), forms_page.locator(f'.problem[data-pointer="{pointer}"]').first
        expect(problem).to_have_text(f"{name} is wrong")
        expect(forms.field(name).locator(problem)).to_have_count(1)
        expect(control).to_have_attribute("aria-invalid", "true")
        expect(control).to_have_accessible_error_message(f"{name} is wrong" + (" and how" if name == "stride" else ""))
        assert f"{name} is wrong" in control.evaluate(DESCRIPTION)
    assert (
        forms_page.evaluate(
            "(all) => unplaced(all, layerOf('conv').forward)", [{"pointer": pointer} for pointer in found]
        )
        == []
    )
    forms.problems()
    expect(forms_page.locator(".problem")).to_have_count(0)
    expect(forms.control("stride")).to_have_attribute("aria-invalid", "false")


def test_problems_without_a_control_are_for_the_general_place(forms_page: Page) -> None:
    pointers = ["/strid", "", "/grad_output", "/shapes", "/", "/shapes/bias", "/groups"]
    rest = forms_page.evaluate(
        "(all) => unplaced(all, layerOf('conv').forward)",
        [{"pointer": pointer} for pointer in pointers] + [{"message": "x"}],
    )
    assert rest == [{"pointer": pointer} for pointer in pointers[:5]] + [{"message": "x"}]


def test_a_problem_below_more_opens_it(forms_page: Page) -> None:
    forms = Forms(forms_page, "conv")
    expect(forms.control("algorithm")).not_to_be_visible()
    forms.problems(("/algorithm", "no such"))
    expect(forms.control("algorithm")).to_be_visible()


def test_a_parameter_that_the_layer_has_not_can_be_taken_away(forms_page: Page) -> None:
    forms = Forms(forms_page, "conv", parameters={"strid": 2})
    assert forms_page.locator("#parameters [name]").first.get_attribute("name") == "strid"
    forms.control("strid").fill("")
    assert forms.parameter("strid") == "left out"


def test_help_opens_by_keyboard(forms_page: Page) -> None:
    Forms(forms_page, "conv")
    button = forms_page.get_by_role("button", name="What is stride?")
    help_text = forms_page.get_by_text("Distance from one window to the next.").first
    expect(help_text).not_to_be_visible()
    button.focus()
    button.press("Enter")
    expect(help_text).to_be_visible()
    expect(button).to_have_attribute("aria-expanded", "true")
    forms_page.evaluate("draw()")
    expect(help_text).to_be_visible()
    button.press("Enter")
    expect(help_text).not_to_be_visible()


def test_parameters_that_nobody_knows_yet_come_first(forms_page: Page) -> None:
    edit = {
        "sharpness": {"type": "number", "default": 0.5, "minimum": 0, "description": "How sharp."},
        "taste": {"enum": ["sweet", "sour"], "default": "sour", "type": "string"},
        "is_odd": {"type": "boolean", "default": True},
        "sides": {"type": "array", "items": {"enum": ["left", "right"]}, "default": ["left"]},
    }
    forms = Forms(forms_page, "conv", edit=edit)
    names = forms_page.locator("#parameters [name]").evaluate_all("(all) => all.map(({ name }) => name)")
    assert names[:5] == ["sharpness", "taste", "is_odd", "sides", "stride"]
    forms_page.get_by_role("button", name="increase sharpness").click()
    assert forms.parameter("sharpness") == 1.5
    forms.control("taste").select_option("sweet")
    assert forms.parameter("taste") == "sweet"
    forms.control("is_odd").uncheck()
    assert forms.parameter("is_odd") is False
    forms.control("sides").fill('["right"]')
    assert forms.parameter("sides") == ["right"]


# Sizes
