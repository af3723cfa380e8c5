"""Large JSON is read in steps; wherever the steps end, the result and the errors are those of reading it at once."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_core import Cancellation, Cancelled
from service.codecs import (
    CODECS,
    Limits,
    RequestContext,
    ResponseContext,
    json_check,
    json_lists,
    json_numbers,
    json_objects,
    json_skeleton,
    steps,
)
from service.codecs.json_check import SyntaxFault, check
from service.codecs.json_skeleton import Skeleton
from service.codecs.v2 import V2Codec
from service.problems import InvalidRequest, RequestProblem, UnreadablePayload
from tests.service.payloads import JSON, AnyArray
from tests.strategies import quick_settings

NO_LIMITS = Limits(0, lambda _: None)
V2 = V2Codec({"output": {}}, 2**25)


@contextlib.contextmanager
def small_steps(size: int) -> Iterator[None]:
    """Let steps end after a few characters, so that every text is large."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (steps, json_check, json_lists, json_objects, json_skeleton):
            patch.setattr(module, "STEP_BYTES", size)
        patch.setattr(steps, "ARRAY_BYTES", size)
        patch.setattr(json_skeleton, "SHORT", 1)
        patch.setattr(json_numbers, "CHUNK_CHARACTERS", size)
        yield


each_size = pytest.mark.parametrize("size", [32, 33, 50, 101])
"""Larger than an escape, of which no part may be cut off."""

SPACES = st.sampled_from(["", "", "", " ", "\n", "\t\r\n", " " * 70])
NUMBERS = st.sampled_from(
    ["0", "-0", "-1.5", "2.5e-3", "1E+2", "16777217.000000001", "0.1234567890123456789", "1" * 17]
)
STRINGS = st.text(st.characters(codec="utf-8"), max_size=60) | st.sampled_from(
    ['"', "\\", '\\"' * 30, "[1,2,3]" * 9, "{}" * 20, "é🦆" * 15, "\x00\n" * 10, "a" * 100]
)


@st.composite
def texts(draw: st.DrawFn, depth: int = 0) -> str:
    """Any JSON, with whitespace anywhere and escapes where they need not be."""
    space = draw(SPACES)
    kind = draw(st.sampled_from(["number", "string", "word", "list", "list", "numbers", "object"]))
    if kind == "string" or (depth > 3 and kind in {"list", "object"}):
        return f"{space}{json.dumps(draw(STRINGS), ensure_ascii=draw(st.booleans()))}{space}"
    if kind == "word":
        return space + draw(st.sampled_from(["true", "false", "null"]))
    if kind == "number":
        return space + draw(NUMBERS)
    if kind == "numbers":
        return f"[{','.join([draw(NUMBERS) + space] * draw(st.integers(1, 60)))}]"
    items = draw(st.lists(texts(depth + 1), max_size=5))
    if kind == "list":
        return f"{space}[{space}{','.join(items)}{space}]"
    names = draw(st.lists(STRINGS.map(json.dumps), min_size=len(items), max_size=len(items), unique=True))
    members = [f"{name}{space}:{item}" for name, item in zip(names, items, strict=True)]
    return f"{space}{{{space}{','.join(members)}{space}}}"


def fault_of(text: bytes) -> SyntaxFault | None:
    try:
        check(text)
    except SyntaxFault as fault:
        return fault
    return None


@each_size
@quick_settings
@given(text=texts())
def test_json_is_json_and_so_is_its_skeleton(size: int, text: str) -> None:
    with small_steps(size):
        assert fault_of(text.encode()) is None
        skeleton = Skeleton.of(text.encode())
    json.loads(skeleton.content)
    for gap in skeleton.gaps:
        assert skeleton.place(gap.position + gap.length) == gap.end
        assert skeleton.place(gap.position) == gap.start


@each_size
@quick_settings
@given(text=texts(), data=st.data())
def test_a_fault_is_found_where_it_is_found_at_once(size: int, text: str, data: st.DataObject) -> None:
    content = text.encode()
    start = data.draw(st.integers(0, len(content)))
    wrong = data.draw(
        st.sampled_from([b"", b"@", b",", b"]", b"[", b"}", b'"', b"\\", b"\xff", b"1", b" ", b"e", b"-"])
    )
    content = content[:start] + wrong + content[start + data.draw(st.integers(0, 2)) :]
    at_once = fault_of(content)
    with small_steps(size):
        in_steps = fault_of(content)
    assert (at_once is None) == (in_steps is None)
    if at_once and in_steps and json_check.NOT_UTF_8 not in {at_once.message, in_steps.message}:
        first, last = sorted((in_steps.position, at_once.position))
        # where blanks are left out, the place before them, or the comma there, may be named for the one after them
        assert content[first:last].strip() in {b"", b","}
        assert first < last or in_steps.message == at_once.message


@each_size
@pytest.mark.parametrize("elements", ["false,][0,0]", "false,]0,0]", "false,],0]", "1,2,]"])
def test_the_comma_that_ends_one_piece_may_be_the_fault_of_the_next(size: int, elements: str) -> None:
    space = " " * 70
    content = f"{space}[{space}{elements}{space}]".encode()
    with small_steps(size):
        fault = fault_of(content)
    assert fault is not None
    assert content[fault.position :].startswith(b",]")


@each_size
def test_a_missing_element_is_found_at_the_comma_after_it(size: int) -> None:
    content = f'{{"{"a" * 300}":[true,["","0", ,""]]}}'.encode()
    at_once = fault_of(content)
    with small_steps(size):
        in_steps = fault_of(content)
    assert at_once is not None
    assert in_steps is not None
    assert in_steps.args == at_once.args


def read(body: str | bytes, limits: Limits = NO_LIMITS) -> AnyArray:
    content = bytearray(body if isinstance(body, bytes) else body.encode())
    return CODECS[JSON].decode(content, RequestContext(["input"]), limits).tensors["input"]


def outcome(body: str) -> Any:
    try:
        return read(body).tolist()
    except RequestProblem as problem:
        return type(problem), [(each.pointer, each.message) for each in problem.findings]


ELEMENTS = st.sampled_from(
    ["1", "-0", "2.5e-3", " 7 ", "null", '"a"', '"[1,"', "[]", "[1]", "[1,2]", "[[1],[2]]", "{}"]
)


@each_size
@quick_settings
@given(rows=st.lists(st.lists(st.just("1") | ELEMENTS, max_size=20) | ELEMENTS, min_size=1, max_size=20))
def test_the_first_element_that_is_wrong_is_the_same(size: int, rows: list[list[str] | str]) -> None:
    text = ",".join(row if isinstance(row, str) else f"[{','.join(row)}]" for row in rows)
    body = f'{{"input": [{text}]}}'
    at_once = outcome(body)
    with small_steps(size):
        in_steps = outcome(body)
    if '"' in text or "{" in text:  # a text ends there, and a second fault after it is not seen
        assert type(in_steps) is type(at_once)
        assert in_steps[0] == at_once[0]
    else:
        assert in_steps == at_once


@each_size
@quick_settings
@given(data=st.data(), shape=st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_numbers_are_the_same_wherever_a_step_ends(size: int, data: st.DataObject, shape: list[int]) -> None:
    def written(levels: list[int]) -> str:
        if not levels:
            return data.draw(SPACES) + draw_number()
        return f"[{data.draw(SPACES)}{','.join(written(levels[1:]) for _ in range(levels[0]))}]"

    source = random.Random(data.draw(st.integers(0, 99)))

    def draw_number() -> str:
        return source.choice(
            [repr(source.uniform(-9, 9)), f"{source.uniform(-9, 9):.30e}", str(source.randint(-99, 99))]
        )

    text = written(shape)
    with small_steps(size):
        array = read(f'{{"stride": 1, "input": {text}, "more": "[1,2"}}')
    np.testing.assert_array_equal(array, np.array(json.loads(text), float), strict=True)


@each_size
@quick_settings
@given(
    content=st.binary(max_size=300), place=st.integers(0, 400), wrong=st.sampled_from(["", "=", "\\/", "\\n", "é", "*"])
)
def test_base64_is_the_same_wherever_a_step_ends(size: int, content: bytes, place: int, wrong: str) -> None:
    encoded = base64.b64encode(content).decode()
    changed = encoded[:place] + wrong + encoded[place:]
    text = changed.replace("/", "\\/") if wrong == "" else changed
    body = f'{{"input": {{"dtype": "uint8", "shape": [{len(content)}], "base64": "{text}"}}}}'
    with small_steps(size - size % 4):
        if wrong:
            with pytest.raises(InvalidRequest, match=r"is not base64|does not fit"):
                read(body)
        else:
            assert read(body).tobytes() == content


@each_size
def test_v2_reads_the_data_and_no_other_list(size: int) -> None:
    request = RequestContext(["input", "weight"])
    tensors = [
        {"name": name, "shape": [20], "datatype": "FP32", "data": list(range(start, start + 20))}
        for name, start in (("input", 0), ("weight", 100))
    ]
    with small_steps(size):
        decoded = V2.decode(bytearray(json.dumps({"inputs": tensors}).encode()), request, NO_LIMITS)
        assert decoded.tensors["input"].ravel().tolist() == list(range(20))
        assert decoded.tensors["weight"].ravel().tolist() == list(range(100, 120))
        tensors[0]["shape"] = [1, 1, 1, 1, 1, 1, 1, 1, 1, 20]
        with pytest.raises(InvalidRequest, match="too long"):
            V2.decode(bytearray(json.dumps({"inputs": tensors}).encode()), request, NO_LIMITS)


# ------------------------------------------------------------------------------------------------------------ bounded

LARGE = 2**20
LARGE_BODIES = {
    "numbers": f'{{"input": [{"1," * LARGE}1]}}',
    "rows": f'{{"input": [{"[1,2]," * (LARGE // 6)}[1,2]]}}',
    "ragged": f'{{"input": [{"[1,2]," * (LARGE // 6)}[1]]}}',
    "null": f'{{"input": [{"1," * LARGE}null]}}',
    "string at the end": f'{{"input": [{"1," * LARGE}"a"]}}',
    "string": f'{{"input": "{"a" * LARGE}"}}',
    "escapes": f'{{"input": "{chr(92) + chr(92)}{chr(92) * LARGE}"}}',
    "whitespace": f'{{"input": [1,{" " * LARGE}2]}}',
    "only whitespace": " " * LARGE,
    "brackets": '{"input": ' + "[" * LARGE,
    "closing brackets": '{"input": [1' + "]" * LARGE,
    "one number": f'{{"input": [1,{"1" * LARGE},2]}}',
    "syntax": f'{{"input": [{"1," * LARGE}]}}',
    "beyond": f'{{"input": [{"1," * LARGE}1e999]}}',
    "members": "{" + ",".join(f'"{i}":1' for i in range(LARGE // 10)) + "}",
    "unknown member": f'{{"inputs": [{"1," * LARGE}1]}}',
    "lines": "\n" * LARGE + "x",
    "base64": f'{{"input": {{"dtype": "uint8", "shape": [{LARGE * 3 // 4}], "base64": "{"A" * LARGE}"}}}}',
    "escaped base64": f'{{"input": {{"dtype": "uint8", "shape": [{LARGE * 3 // 8}], "base64": "{chr(92) + "/"}'
    + "\\/" * (LARGE // 2 - 1)
    + '"}}',
}
each_large_body = pytest.mark.parametrize("text", LARGE_BODIES.values(), ids=LARGE_BODIES.keys())


@each_large_body
def test_no_call_is_given_much_of_a_large_body(text: str) -> None:
    """The parser and the methods of bytes hold the GIL: none gets more than some hundreds of kilobytes."""
    longest = 0

    def watch(_: Any, event: str, argument: Any) -> None:
        nonlocal longest
        if event == "c_call":
            owner = getattr(argument, "__self__", None)
            if isinstance(owner, (bytes, bytearray, str)):
                longest = max(longest, len(owner))

    body = bytearray(text.encode())
    sys.setprofile(watch)
    try:
        with contextlib.suppress(RequestProblem):
            CODECS[JSON].decode(body, RequestContext(["input"]), NO_LIMITS)
    finally:
        sys.setprofile(None)
    assert longest < 2**19  # of 1 to 6 MiB


@each_large_body
def test_decoding_ends_between_two_steps(text: str) -> None:
    token = Cancellation()
    token.cancel()
    with token, pytest.raises(Cancelled):
        read(text)


def test_writing_ends_between_two_steps() -> None:
    token = Cancellation()
    token.cancel()
    for form in ("nested", "flat", "base64"):
        with token, pytest.raises(Cancelled):
            CODECS[JSON].encode({"output": np.ones((1000, 1000))}, ResponseContext({"form": form}))


def test_a_number_that_is_too_long_is_named() -> None:
    with pytest.raises(InvalidRequest, match="too long") as caught:
        read(f'{{"input": [{"[1, 2], " * 1000}[3, 0.{"1" * 2**20}],{"[1, 2], " * 1000}[3, 4]]}}')
    assert [finding.pointer for finding in caught.value.findings] == ["/input/1000/1"]
    with pytest.raises(UnreadablePayload, match="a number has more than"):
        read(f'{{"more": 0.{"1" * 2**20}}}')


def test_a_text_that_begins_as_an_indented_one_may_go_on_as_a_dense_one() -> None:
    """What the parser, orjson, takes for a lack of memory."""
    numbers = ",".join(["1"] * 30_000)
    assert read(f'{{\n  "input": [\n  {numbers}]}}').shape == (30_000,)
    with pytest.raises(InvalidRequest, match="ragged"):
        read(f'{{\n  "input": [\n  [{numbers}], [1]]}}')
    with pytest.raises(UnreadablePayload, match="line 2, column 60012: "):
        read(f'{{\n  "input": [{numbers}@]}}')
