"""The state of the playground in the URL's fragment, and operands that fit after a change."""

from __future__ import annotations

import base64
import json
import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import BrowserContext, Page

from tests.browser.playground.modules import blank_page

Json = Any

DEFAULTS = {
    "op": "conv", "view": "forward", "parameters": {}, "tensors": {},
    "item": 0, "tab": "", "by": "", "cell": "", "hide": [], "present": False,
}  # fmt: skip
QUICK = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)  # a lone surrogate is no text of a URL
DTYPES = ["float32", "float64", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))]
WORD = st.text("abcxyzAZ_019", min_size=1, max_size=8)

ENCODE = """async (states) => Promise.all(states.map(async (state) => {
  const fragment = await encodeFragment(state);
  return [fragment, { ...DEFAULTS, ...(await decodeFragment(fragment)) }];
}))"""
DECODE = """async (fragments) => Promise.all(fragments.map((text) => decodeFragment(text).then(
  (state) => ["state", state],
  (error) => [error instanceof FragmentError ? "FragmentError" : `${error.name}: ${error.message}`, error.message],
)))"""


@pytest.fixture(scope="module")
def page(context: BrowserContext, server_url: str) -> Iterator[Page]:
    with context.new_page() as page:
        yield blank_page(page, server_url, "service", "state", "fitting")


# Round trips


@st.composite
def tensors(draw: st.DrawFn) -> Json:
    dtype = draw(
        st.sampled_from(["float32", "float64", *(f"{u}int{bits}" for u in ("", "u") for bits in (8, 16, 32, 64))])
    )
    shape = draw(st.lists(st.integers(0, 4), max_size=5))
    count = math.prod(shape)
    if "int" in dtype:
        information = np.iinfo(dtype)
        value = st.integers(int(information.min), int(information.max)).map(float)
    else:
        width = int(dtype.removeprefix("float"))
        value = st.floats(width=width) | st.integers(-9, 9).map(float) | st.just(-0.0)  # type: ignore[arg-type]
    data = draw(st.lists(value, min_size=count, max_size=count))
    return {"dtype": dtype, "shape": shape, "data": data}


NUMBER = st.integers(-9, 99) | st.floats(allow_nan=False, allow_infinity=False)
PARAMETER = (
    NUMBER | TEXT | st.booleans() | st.none() | st.lists(NUMBER | TEXT | st.lists(NUMBER, max_size=3), max_size=4)
    | st.sampled_from(["2", "[1,2]", "null", "true", '"x"', "1,2", "NaN", "1e999", " same ", "a&b=c#d%e+f", ""])
)  # fmt: skip
# playwright sets the properties of what it hands over, so that the page never gets one of the name __proto__
NAME = (WORD | TEXT | st.sampled_from(["op", "data", "hide", ".op", "item", "toString"])).filter("__proto__".__ne__)
STATES = st.fixed_dictionaries(
    {
        "op": WORD,
        "view": WORD,
        "parameters": st.dictionaries(NAME, PARAMETER, max_size=4),
        "tensors": st.dictionaries(WORD, tensors(), max_size=3),
        "item": st.integers(0, 10**9 - 1),
        "tab": WORD | st.just(""),
        "by": WORD | st.just("") | st.builds("{}:{}".format, WORD, WORD),
        "cell": st.just("") | st.builds("{}:{}".format, WORD, st.integers(0, 10**9 - 1)),
        "hide": st.lists(TEXT, max_size=3),
        "present": st.booleans(),
    }
)


def exactly(value: Json) -> Json:
    """A value of JSON whose parts compare as equal only if they are the same: NaN is itself, and -0.0 is not 0."""
    if isinstance(value, dict):
        return {name: exactly(part) for name, part in value.items()}
    if isinstance(value, list):
        return [exactly(part) for part in value]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    return "NaN" if math.isnan(value) else struct.pack("<d", value)


def unpacked(fragment: str) -> Json:
    """The tensors of a fragment, which the page does not read."""
    data = dict(item.partition("=")[::2] for item in fragment[1:].split("&")).get("data", "")
    packed = base64.urlsafe_b64decode(data + "=" * (-len(data) % 4))
    return json.loads(zlib.decompress(packed, wbits=-zlib.MAX_WBITS)) if packed else {}


@QUICK
@given(states=st.lists(STATES, min_size=8, max_size=8))
def test_every_state_comes_back_from_its_fragment(page: Page, states: list[Json]) -> None:
    for state, (fragment, decoded) in zip(states, page.evaluate(ENCODE, states), strict=True):
        assert exactly(decoded) == exactly(state), fragment
        written = unpacked(fragment)
        for name, tensor in state["tensors"].items():
            assert written[name]["dtype"] == tensor["dtype"]
            assert exactly([float(value) for value in written[name]["data"]]) == exactly(tensor["data"])


@QUICK
@given(states=st.lists(STATES, min_size=8, max_size=8), data=st.data())
def test_equal_states_have_equal_fragments(page: Page, states: list[Json], data: st.DataObject) -> None:
    def shuffled(value: Json) -> Json:
        if not isinstance(value, dict):
            return value
        return {name: shuffled(value[name]) for name in data.draw(st.permutations(sorted(value)))}

    one, other = (page.evaluate(ENCODE, each) for each in (states, [shuffled(state) for state in states]))
    assert [fragment for fragment, _ in one] == [fragment for fragment, _ in other]


def test_a_large_tensor_comes_back(page: Page) -> None:
    result = page.evaluate(
        """async () => {
          const data = Array.from({ length: 2 ** 20 }, (_, index) => (index % 64 ? index % 9 : Math.sin(index)));
          const state = { ...DEFAULTS, tensors: { input: { dtype: "float64", shape: [1, 1024, 1024, 1], data } } };
          const { tensors } = await decodeFragment(await encodeFragment(state));
          return tensors.input.shape.concat(tensors.input.data.every((value, index) => Object.is(value, data[index])));
        }"""
    )
    assert result == [1, 1024, 1024, 1, True]


def test_what_people_read_and_write_is_short_and_plain(page: Page) -> None:
    layer = {
        "input": {"dtype": "float64", "shape": [1, 5, 5, 1], "data": [(7 * i) % 9 - 4 for i in range(25)]},
        "weight": {"dtype": "float64", "shape": [3, 3, 1, 1], "data": [1, 0, -1, 2, 0, -2, 1, 0, -1]},
    }
    parameters = {"stride": [2, 1], "padding": "same", "dilation": 1, "ceil_mode": True}
    state = {**DEFAULTS, "tensors": layer, "parameters": parameters, "hide": ["formula", "code"]}
    [[fragment, _]] = page.evaluate(ENCODE, [state])
    assert len(fragment) < 300
    assert fragment.startswith("#v1&op=conv&ceil_mode=true&dilation=1&padding=same&stride=[2,1]&data=")
    assert fragment.endswith("&hide=formula,code")


@pytest.mark.parametrize(
    ("fragment", "state"),
    [
        ("", {}),
        ("#", {}),
        ("#v1", {}),
        ("#v1&op=pool", {"op": "pool"}),
        ("#v1&op=pool&", {"op": "pool"}),
        (
            "#v1&op=pool&mode=avg&kernel_size=2,3&padding=%5B%5B0,1%5D,%5B1,0%5D%5D",
            {"op": "pool", "parameters": {"mode": "avg", "kernel_size": [2, 3], "padding": [[0, 1], [1, 0]]}},
        ),
        ("#v1&op=conv&present&hide=code", {"op": "conv", "present": True, "hide": ["code"]}),
        ("#v1&op=conv&divisor_override=1e999", {"op": "conv", "parameters": {"divisor_override": "1e999"}}),
    ],
)  # fmt: skip
def test_a_fragment_that_is_written_by_hand(page: Page, fragment: str, state: Json) -> None:
    assert page.evaluate(DECODE, [fragment]) == [["state", state]]


# Hostile and damaged fragments


def with_data(text: str | bytes, **more: str) -> str:
    compressor = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    raw = text.encode() if isinstance(text, str) else text
    data = base64.urlsafe_b64encode(compressor.compress(raw) + compressor.flush()).decode().rstrip("=")
    return "#v1&op=conv" + "".join(f"&{name}={value}" for name, value in more.items()) + f"&data={data}"


def of_tensor(**changes: Json) -> str:
    return with_data(json.dumps({"input": {"dtype": "float64", "shape": [2], "data": [1, 2]} | changes}))


@pytest.mark.parametrize(
    "fragment",
    [
        "#v2&op=conv", "#op=conv", "v1op=conv", "#v1&op=", "#v1&op=../x", "#v1&op=a%zz", "#v1&x=%", "#v1&item=-1",
        "#v1&item=1.5", "#v1&item=x", "#v1&cell=output", "#v1&cell=output:x", "#v1&view=a/b", "#v1&tab=<b>",
        "#v1&op=conv&op=conv", "#v1&a=1&%61=2", "#v1&present=no", "#v1&data=", "#v1&data=!!!", "#v1&data=AAAA",
        with_data("null"), with_data("[]"), with_data("1"), with_data("{"), with_data(b"\xff\xfe"),
        with_data('{"a b":1}'),
        with_data("[" * 10_000_000), with_data("[" + "[]," * 5_000_000), with_data('{"input":null}'),
        with_data(json.dumps({f"input{i}": {"dtype": "int8", "shape": [], "data": [0]} for i in range(17)})),
        of_tensor(dtype="float16"), of_tensor(dtype="complex128"), of_tensor(dtype=None), of_tensor(dtype="__proto__"),
        of_tensor(shape=[3]), of_tensor(shape=[-2]), of_tensor(shape=[1.5]), of_tensor(shape="2"),
        of_tensor(shape=[1] * 9),
        of_tensor(shape=[2**20, 2]), of_tensor(shape=[2**31, 2**31, 0]), of_tensor(data={"length": 2}),
        of_tensor(data=[1, "2"]), of_tensor(data=[1, None]), of_tensor(data=[1, [2]]), of_tensor(data=[1, True]),
        of_tensor(dtype="int8", data=[128, 0]), of_tensor(dtype="uint8", data=[-1, 0]),
        of_tensor(dtype="int64", data=[0.5, 0]),
        of_tensor(dtype="int64", data=[2**64, 0]), of_tensor(dtype="int32", data=["NaN", 0]),
    ],
    ids=lambda fragment: fragment[:60],
)  # fmt: skip
def test_a_fragment_that_cannot_be_read_is_refused_in_a_sentence(page: Page, fragment: str) -> None:
    [[kind, message]] = page.evaluate(DECODE, [fragment])
    assert kind == "FragmentError"
    assert message[0].isupper()
    assert message.endswith(".")
    assert "/x" not in message
    assert "<b>" not in message


def test_a_bomb_is_not_unpacked(page: Page) -> None:
    compressor = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    packed = b"".join(compressor.compress(b" " * 2**24) for _ in range(8)) + compressor.flush()
    data = base64.urlsafe_b64encode(packed).decode().rstrip("=")
    kind, made = page.evaluate(
        """async (fragment) => {
          const Native = DecompressionStream;
          let made = 0;
          window.DecompressionStream = class {
            constructor(format) {
              const stream = new Native(format);
              const transform = (chunk, controller) => { made += chunk.length; controller.enqueue(chunk); };
              this.writable = stream.writable;
              this.readable = stream.readable.pipeThrough(new TransformStream({ transform }));
            }
          };
          const kind = await decodeFragment(fragment).catch((error) => error instanceof FragmentError);
          window.DecompressionStream = Native;
          return [kind, made];
        }""",
        f"#v1&op=conv&data={data}",
    )
    assert kind is True
    assert 2**25 <= made <= 2**25 + 3 * 2**22, "8 * 16 MB are in it"


EDIT = st.tuples(st.integers(0, 400), st.integers(0, 5), st.text('#&=%v1op.,[]"AZz09-_\x00é', max_size=4))


@QUICK
@given(edits=st.lists(st.lists(EDIT, min_size=1, max_size=3), min_size=20, max_size=20))
def test_a_damaged_fragment_is_read_or_refused(page: Page, edits: list[list[tuple[int, int, str]]]) -> None:
    whole = with_data(
        json.dumps({"input": {"dtype": "uint8", "shape": [1, 5, 5, 1], "data": [i * i % 9 for i in range(25)]}}),
        item="3", padding="[1,2]", cell="output:3", hide="code",
    )  # fmt: skip
    damaged = []
    for changes in edits:
        text = whole
        for start, length, replacement in changes:
            text = text[: start % len(text)] + replacement + text[start % len(text) + length :]
        damaged.append(text)
    for fragment, (kind, result) in zip(damaged, page.evaluate(DECODE, damaged), strict=True):
        assert kind in ("state", "FragmentError"), (fragment, result)
        for tensor in result.get("tensors", {}).values() if kind == "state" else ():
            assert len(tensor["data"]) == math.prod(tensor["shape"])


# Tensors of another shape and order


SHAPES = st.lists(st.integers(0, 5), min_size=0, max_size=5)


@QUICK
@given(
    cases=st.lists(st.tuples(SHAPES, SHAPES, st.sampled_from(["float64", "int8", "uint8"])), min_size=20, max_size=20)
)
def test_resized_keeps_what_overlaps(page: Page, cases: list[tuple[list[int], list[int], str]]) -> None:
    olds = [np.arange(100.0, 100 + math.prod(old)).reshape(old) for old, _, _ in cases]
    arguments = [
        [{"dtype": dtype, "shape": old, "data": array.reshape(-1).tolist()}, new]
        for (old, new, dtype), array in zip(cases, olds, strict=True)
    ]
    results = page.evaluate("(all) => all.map(([tensor, shape]) => resized(tensor, shape))", arguments)
    assert results == page.evaluate("(all) => all.map(([tensor, shape]) => resized(tensor, shape))", arguments)
    for (_, new, dtype), old, result in zip(cases, olds, results, strict=True):
        assert (result["dtype"], result["shape"]) == (dtype, new)
        # axes are counted from the last; of axes that are gone the first element is kept
        kept = old[(0,) * max(0, old.ndim - len(new))] if old.size else np.zeros((0,) * len(new))
        kept = kept.reshape((1,) * (len(new) - kept.ndim) + kept.shape)
        for position, value in zip(np.ndindex(*new), result["data"], strict=True):
            if old.size and all(at < size for at, size in zip(position, kept.shape, strict=True)):
                assert value == kept[position]
            else:
                assert value in (range(10) if dtype == "uint8" else range(-4, 5))


def test_new_values_differ(page: Page) -> None:
    result = page.evaluate('resized({ dtype: "float64", shape: [0], data: [] }, [6, 6])')
    assert set(result["data"]) == set(range(-4, 5))


@st.composite
def orders(draw: st.DrawFn) -> Json:
    """A shape, the axes' names and the same in another order, and which axis goes where."""
    spatial = draw(st.integers(0, 3))
    names = draw(st.permutations(["N", "*spatial", "C", "D/groups"]))[: draw(st.integers(1, 4))]
    if "*spatial" not in names:
        spatial = 0
    moved = draw(st.permutations(names))
    axes = [name for name in names for _ in range(spatial if name == "*spatial" else 1)]
    shape = [draw(st.integers(0, 4)) for _ in axes]
    order: list[int] = []
    for name in moved:
        order += [index for index, axis in enumerate(axes) if axis == name]
    return shape, names, moved, order


@QUICK
@given(cases=st.lists(orders(), min_size=20, max_size=20))
def test_laid_out_is_a_transposition(page: Page, cases: list[Json]) -> None:
    arrays = [np.arange(float(math.prod(shape))).reshape(shape) for shape, *_ in cases]
    arguments = [
        [{"dtype": "float64", "shape": shape, "data": array.reshape(-1).tolist()}, names, moved]
        for (shape, names, moved, _), array in zip(cases, arrays, strict=True)
    ]
    results = page.evaluate("(all) => all.map((one) => laidOut(...one))", arguments)
    for (_, _, _, order), array, result in zip(cases, arrays, results, strict=True):
        expected = np.transpose(array, order)
        assert result["shape"] == list(expected.shape)
        assert result["data"] == expected.reshape(-1).tolist()


def test_a_product_of_axes_is_laid_out_by_its_factors(page: Page) -> None:
    array = np.arange(2.0 * 5 * 12).reshape(2, 5, 12)
    tensor = {"dtype": "float64", "shape": [2, 5, 12], "data": array.reshape(-1).tolist()}
    result = page.evaluate(
        "([tensor, from, to]) => laidOut(tensor, from, to, { kernel: 4 })",
        [tensor, ["N", "windows", "kernel * C"], ["N", "C * kernel", "windows"]],
    )
    expected = array.reshape(2, 5, 4, 3).transpose(0, 3, 2, 1).reshape(2, 12, 5)
    assert result["shape"] == [2, 12, 5]
    assert result["data"] == expected.reshape(-1).tolist()
