"""The forms of parameters and sizes: what is typed, shown and told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from service.operations.catalogue import CATALOGUE
from tests.browser.playground.modules import blank_page

Json = Any

TIMES = "\N{MULTIPLICATION SIGN}"
LAYERS = [entry.name for entry in CATALOGUE]
FORMS = """async ([op, more, problems, resolved, edit]) => {
  const layer = structuredClone(layerOf(op));
  if (edit) Object.assign(layer.forward.parameters.properties, edit);
  window.state = { ...DEFAULTS, ...(await changed({ ...DEFAULTS, op: "" }, layer, { op, ...more }, fetchExample)) };
  window.made = [];
  let last = Promise.resolve();
  const onChange = (changes) => {
    last = last.then(async () => {
      const given = typeof changes === "function" ? changes(state) : changes;
      made.push(given);
      state = await changed(state, layer, given, fetchExample);
      draw();
    });
  };
  window.settle = () => last;
  let resolvedOf = state.parameters;
  window.draw = (findings = problems, completed = resolved) => {
    problems = findings;
    if (completed !== resolved) resolvedOf = state.parameters;
    resolved = completed;
    const common = { operation: layer.forward, state, problems, onChange };
    const forms = [parameterForm({ ...common, resolved, resolvedOf }), sizesForm(common)];
    render(html`${forms}`, document.getElementById("page"));
    document.getElementById("page").dataset.drawn = made.length;
  };
  draw();
}"""

DESCRIPTION = """(control) =>
  control.getAttribute("aria-describedby").split(" ").map((id) => document.getElementById(id).innerText).join(" ")
"""


@pytest.fixture(scope="module")
def page(context: BrowserContext, server_url: str) -> Iterator[Page]:
    with context.new_page() as page:
        yield blank_page(page, server_url, "service", "state", "controls", "vendor/lit-html")


class Forms:
    """The two forms of a layer, drawn anew after each change as the page does."""

    def __init__(self, page: Page, op: str, **more: Json) -> None:
        self.page = page
        problems, resolved, edit = (more.pop(name, default) for name, default in _OTHERS)
        page.evaluate(
            "document.getElementById('page').replaceChildren(); delete document.getElementById('page')._$litPart$"
        )
        page.evaluate(FORMS, [op, more, problems, resolved, edit])

    def control(self, name: str) -> Locator:
        return self.page.locator(f'[name="{name}"]')

    def problems(self, *findings: tuple[str, str]) -> None:
        self.page.evaluate("(all) => draw(all)", [{"pointer": pointer, "message": text} for pointer, text in findings])

    def resolve(self, **parameters: Json) -> None:
        self.page.evaluate("(all) => draw([], all)", parameters)

    def settled(self) -> Json:
        """The state once all changes are made and drawn."""
        return self.page.evaluate(
            """async () => {
              await settle();
              return state;
            }"""
        )

    def parameter(self, name: str) -> Json:
        return self.settled()["parameters"].get(name, "left out")

    def shapes(self) -> Json:
        return {name: "x".join(map(str, one["shape"])) for name, one in self.settled()["tensors"].items()}

    def field(self, name: str) -> Locator:
        return self.page.locator(".field").filter(has=self.control(name))


_OTHERS: list[tuple[str, Json]] = [("problems", []), ("resolved", {}), ("edit", None)]


@pytest.mark.parametrize("op", LAYERS)
def test_every_parameter_and_operand_has_a_control_with_its_description(page: Page, op: str) -> None:
    forms = Forms(page, op)
    operation = page.evaluate("(op) => layerOf(op).forward", op)
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
def test_what_is_typed_is_the_parameter(page: Page, name: str, text: str, value: Json) -> None:
    forms = Forms(page, "conv", parameters={"groups": 1})
    control = forms.control(name)
    control.fill("")
    control.press_sequentially(text)
    assert forms.parameter(name) == value
    expect(control).to_have_value(text)
    expect(control).to_be_focused()


def test_each_keystroke_counts_and_the_caret_stays(page: Page) -> None:
    forms = Forms(page, "conv")
    control = forms.control("padding")
    control.fill("11")
    control.press("Home")
    control.press("ArrowRight")
    made = page.evaluate("made.length")
    control.press_sequentially(",2,")
    assert forms.parameter("padding") == [1, 2, 1]
    assert [one["parameters"]["padding"] for one in page.evaluate("made")[made:]] == [
        [1, 1], [1, 21], [1, 2, 1],
    ]  # fmt: skip
    assert control.evaluate("(one) => [one.value, one.selectionStart]") == ["1,2,1", 4]
    control.blur()
    page.evaluate("draw()")
    expect(control).to_have_value("[1,2,1]")


def test_a_change_from_elsewhere_is_shown(page: Page) -> None:
    forms = Forms(page, "conv")
    control = forms.control("padding")
    control.fill("same")
    forms.settled()
    page.evaluate("() => { state = { ...state, parameters: { padding: 3 } }; draw(); }")
    expect(control).to_have_value("3")
    page.evaluate("() => { state = { ...state, parameters: {} }; draw(); }")
    expect(control).to_have_value("")
    expect(control).to_have_attribute("placeholder", "0")


def test_steps(page: Page) -> None:
    forms = Forms(page, "conv")
    less, more = (page.get_by_role("button", name=f"{verb} dilation") for verb in ("decrease", "increase"))
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


def test_steps_from_what_the_service_makes_of_nothing(page: Page) -> None:
    forms = Forms(page, "pool", parameters={"mode": "avg", "stride": None}, resolved={"stride": [2, 2]})
    page.get_by_role("button", name="increase stride").click()
    assert forms.parameter("stride") == 3
    page.get_by_role("button", name="increase output_size").click()
    assert forms.parameter("output_size") == 1
    page.locator("summary").click()
    page.get_by_role("button", name="decrease divisor_override").click()
    assert forms.parameter("divisor_override") == -1
    page.get_by_role("button", name="increase divisor_override").click()
    assert forms.parameter("divisor_override") == 1, "0 is no divisor"


def test_words_are_offered(page: Page) -> None:
    forms = Forms(page, "conv")
    words = forms.control("padding").evaluate("(one) => [...one.list.options].map(({ value }) => value)")
    assert words == ["valid", "same", "same_lower", "same_upper"]


def test_a_choice_names_its_default(page: Page) -> None:
    forms = Forms(page, "conv")
    control = forms.control("padding_mode")
    expect(control.locator("option")).to_have_text(["default (zeros)", "zeros", "reflect", "replicate", "circular"])
    control.select_option("circular")
    assert forms.parameter("padding_mode") == "circular"
    control.select_option("default (zeros)")
    assert forms.parameter("padding_mode") == "left out"
    page.locator("summary").click()
    expect(forms.control("framework").locator("option")).to_have_text(
        ["default (none)", "torch", "tensorflow", "onnx", "jax"]
    )
    forms.control("framework").select_option("torch")
    forms.settled()
    expect(forms.control("data_format").locator("option").first).to_have_text("torch's default (channels_first)")
    assert forms.shapes()["input"] == "1x1x3x3"


def test_what_must_be_chosen_has_no_default(page: Page) -> None:
    forms = Forms(page, "pool")
    expect(forms.control("mode").locator("option")).to_have_text(["max", "avg", "lp"])
    expect(forms.control("mode")).to_have_value("max")


def test_a_value_that_is_no_choice_is_shown(page: Page) -> None:
    forms = Forms(page, "conv", parameters={"padding_mode": "mirror", "algorithm": 3})
    expect(forms.control("padding_mode")).to_have_value("mirror")
    expect(forms.control("algorithm")).to_have_value("3")
    expect(forms.control("algorithm")).to_be_visible()  # below "more", which is open for it


def test_yes_and_no(page: Page) -> None:
    forms = Forms(page, "pool", parameters={"mode": "avg"})
    control = forms.control("ceil_mode")
    control.check()
    assert forms.parameter("ceil_mode") is True
    control.uncheck()
    assert forms.parameter("ceil_mode") == "left out"
    forms = Forms(page, "pool", parameters={"mode": "avg", "framework": "torch"})
    control = forms.control("count_include_pad")
    expect(control).to_be_checked()
    control.uncheck()
    assert forms.parameter("count_include_pad") is False
    expect(control).not_to_be_checked()
    control.check()
    assert forms.parameter("count_include_pad") == "left out"


def test_another_mode_has_other_controls(page: Page) -> None:
    forms = Forms(page, "pool", parameters={"ties": "all"})
    expect(forms.control("ties")).to_have_value("all")
    forms.control("mode").select_option("avg")
    assert forms.parameter("ties") == "left out"
    expect(forms.control("ties")).to_have_count(0)
    expect(forms.control("count_include_pad")).to_be_visible()
    forms.control("mode").select_option("lp")
    assert forms.parameter("mode") == "lp"
    expect(forms.control("count_include_pad")).to_have_count(0)
    expect(forms.control("norm_type")).to_have_attribute("placeholder", "2")


def test_what_the_service_made_of_a_parameter(page: Page) -> None:
    forms = Forms(page, "pool", parameters={"padding": "same", "stride": None})
    made = {"padding": [[0, 1], [0, 1]], "stride": [2, 2], "kernel_size": [2, 2], "dilation": [1, 1], "ties": "first"}
    forms.resolve(**made)
    notes = page.locator(".resolved")
    expect(notes).to_have_text(["stride → [2,2]", "padding same → [[0,1],[0,1]]"])
    forms.control("padding").fill("0,1")
    forms.settled()
    expect(notes).to_have_text(["stride → [2,2]"])  # the service has not answered to the other yet
    forms.resolve(**made | {"padding": [[0, 0], [1, 2]]})
    expect(notes).to_have_text(["stride → [2,2]", "padding [0,1] → [[0,0],[1,2]]"])
    forms.resolve(padding=[[0, 0], [1, 1]])
    expect(notes).to_have_count(0)


# Problems


def test_a_problem_stands_at_its_control(page: Page) -> None:
    forms = Forms(page, "conv")
    found = {"/stride": "stride", "/padding/0/1": "padding", "/shapes/input": "size:input", "/weight": "size:weight",
             "/spatial_axes": "spatial_axes"}  # fmt: skip
    forms.problems(*((pointer, f"{name} is wrong") for pointer, name in found.items()), ("/stride", "and how"))
    for pointer, name in found.items():
        control, problem = forms.control(name), page.locator(f'.problem[data-pointer="{pointer}"]').first
        expect(problem).to_have_text(f"{name} is wrong")
        expect(forms.field(name).locator(problem)).to_have_count(1)
        expect(control).to_have_attribute("aria-invalid", "true")
        expect(control).to_have_accessible_error_message(f"{name} is wrong" + (" and how" if name == "stride" else ""))
        assert f"{name} is wrong" in control.evaluate(DESCRIPTION)
    assert (
        page.evaluate("(all) => unplaced(all, layerOf('conv').forward)", [{"pointer": pointer} for pointer in found])
        == []
    )
    forms.problems()
    expect(page.locator(".problem")).to_have_count(0)
    expect(forms.control("stride")).to_have_attribute("aria-invalid", "false")


def test_problems_without_a_control_are_for_the_general_place(page: Page) -> None:
    pointers = ["/strid", "", "/grad_output", "/shapes", "/", "/shapes/bias", "/groups"]
    rest = page.evaluate(
        "(all) => unplaced(all, layerOf('conv').forward)",
        [{"pointer": pointer} for pointer in pointers] + [{"message": "x"}],
    )
    assert rest == [{"pointer": pointer} for pointer in pointers[:5]] + [{"message": "x"}]


def test_a_problem_below_more_opens_it(page: Page) -> None:
    forms = Forms(page, "conv")
    expect(forms.control("algorithm")).not_to_be_visible()
    forms.problems(("/algorithm", "no such"))
    expect(forms.control("algorithm")).to_be_visible()


def test_a_parameter_that_the_layer_has_not_can_be_taken_away(page: Page) -> None:
    forms = Forms(page, "conv", parameters={"strid": 2})
    assert page.locator("#parameters [name]").first.get_attribute("name") == "strid"
    forms.control("strid").fill("")
    assert forms.parameter("strid") == "left out"


def test_help_opens_by_keyboard(page: Page) -> None:
    Forms(page, "conv")
    button = page.get_by_role("button", name="What is stride?")
    help_text = page.get_by_text("Distance from one window to the next.").first
    expect(help_text).not_to_be_visible()
    button.focus()
    button.press("Enter")
    expect(help_text).to_be_visible()
    expect(button).to_have_attribute("aria-expanded", "true")
    page.evaluate("draw()")
    expect(help_text).to_be_visible()
    button.press("Enter")
    expect(help_text).not_to_be_visible()


def test_parameters_that_nobody_knows_yet_come_first(page: Page) -> None:
    edit = {
        "sharpness": {"type": "number", "default": 0.5, "minimum": 0, "description": "How sharp."},
        "taste": {"enum": ["sweet", "sour"], "default": "sour", "type": "string"},
        "is_odd": {"type": "boolean", "default": True},
        "sides": {"type": "array", "items": {"enum": ["left", "right"]}, "default": ["left"]},
    }
    forms = Forms(page, "conv", edit=edit)
    names = page.locator("#parameters [name]").evaluate_all("(all) => all.map(({ name }) => name)")
    assert names[:5] == ["sharpness", "taste", "is_odd", "sides", "stride"]
    page.get_by_role("button", name="increase sharpness").click()
    assert forms.parameter("sharpness") == 1.5
    forms.control("taste").select_option("sweet")
    assert forms.parameter("taste") == "sweet"
    forms.control("is_odd").uncheck()
    assert forms.parameter("is_odd") is False
    forms.control("sides").fill('["right"]')
    assert forms.parameter("sides") == ["right"]


# Sizes


def test_sizes_are_named_by_their_axes(page: Page) -> None:
    def labels() -> list[str]:
        return [text.replace(f" {TIMES} ", ", ") for text in page.locator("#sizes .axes").all_inner_texts()]

    Forms(page, "conv")
    assert labels() == ["N, H, W, C", "kernel H, kernel W, C/groups, C_out", "C_out"]
    Forms(page, "conv", parameters={"data_format": "NCW", "spatial_axes": 1})
    assert labels()[:2] == ["N, C, W", "C_out, C/groups, kernel W"]


def test_a_size_changes_the_operands(page: Page) -> None:
    forms = Forms(page, "conv")
    forms.control("size:input").fill(f"2{TIMES}4x 5 X3")
    assert forms.shapes() == {"input": "2x4x5x3", "weight": "2x2x3x1", "bias": "1"}
    expect(forms.control("size:input")).to_have_value(f"2{TIMES}4x 5 X3")
    expect(forms.control("size:weight")).to_have_value("2x2x3x1")


def test_a_size_on_its_way_costs_no_values(page: Page) -> None:
    forms = Forms(page, "conv")
    before = forms.settled()
    control = forms.control("size:input")
    control.focus()
    for text in ("1x3x3x", "1x3x3x12", "1x3x3x1", "1x1x3x1", "1x1x1x1", "1x3x3x1"):
        control.fill(text)
    assert forms.settled()["tensors"] == before["tensors"]


def test_another_rank_is_taken_when_it_is_whole(page: Page) -> None:
    forms = Forms(page, "conv")
    control = forms.control("size:input")
    control.fill("")
    control.press_sequentially("1x6x4")
    assert forms.shapes()["input"] == "1x3x3x1"
    control.press("Enter")
    assert forms.shapes() == {"input": "1x6x4", "weight": "2x4x1", "bias": "1"}
    assert forms.parameter("spatial_axes") == 1


@pytest.mark.parametrize("text", ["1x3x3x", "a", "1x-3x3x1", "", "1x3.5x3x1", "1x9999999x9x9", "1x1024x1024x2"])
def test_a_size_that_is_none_is_not_taken(page: Page, text: str) -> None:
    forms = Forms(page, "conv")
    control = forms.control("size:input")
    control.fill(text)
    assert not control.evaluate("(one) => one.validity.valid")
    control.blur()
    assert forms.shapes()["input"] == "1x3x3x1"
    expect(control).to_have_value("1x3x3x1")
    assert control.evaluate("(one) => one.validity.valid")


def test_an_optional_operand_comes_and_goes(page: Page) -> None:
    forms = Forms(page, "conv")
    forms.control("size:weight").fill("2x2x1x3")
    box = page.get_by_role("checkbox", name="with bias")
    expect(box).to_be_checked()
    box.uncheck()
    assert forms.shapes() == {"input": "1x3x3x1", "weight": "2x2x1x3"}
    expect(forms.control("size:bias")).to_be_disabled()
    box.check()
    assert forms.shapes()["bias"] == "3"
    expect(forms.control("size:bias")).to_have_value("3")


def test_one_value_may_become_one_for_each_channel(page: Page) -> None:
    forms = Forms(page, "qlinear_conv")
    control = forms.control("size:weight_scale")
    expect(control).to_have_value("")
    control.fill("1")
    control.press("Enter")
    assert forms.shapes()["weight_scale"] == "1"
    control.fill("")
    control.press("Enter")
    assert forms.shapes()["weight_scale"] == ""


def test_spatial_axes_and_dtype(page: Page) -> None:
    forms = Forms(page, "conv")
    forms.control("spatial_axes").select_option("3")
    assert forms.shapes() == {"input": "1x3x3x3x1", "weight": "2x2x2x1x1", "bias": "1"}
    expect(forms.control("spatial_axes")).to_have_value("3")
    forms.control("dtype").select_option("float32")
    assert {one["dtype"] for one in forms.settled()["tensors"].values()} == {"float32"}
    Forms(page, "conv_integer")
    expect(forms.control("dtype")).to_have_count(0)
