"""Lists of numbers are read from their text as the standard library's parser and NumPy read them, or refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.codecs import CODECS, Limits, RequestContext, json_numbers
from service.codecs.json_tensors import read_data
from service.problems import InvalidRequest, RequestProblem, UnreadablePayload
from tests.service.payloads import JSON, AnyArray
from tests.strategies import quick_settings

NO_LIMITS = Limits(0, lambda _: None)
NUMBERS = ["0", "-0", "7", "-1.5", "2.5e-3", "1E2", "-0.0", "16777217", "16777217.000000001"]
SPACES = st.sampled_from(["", "", " ", "\n", "\t \r\n"])


@pytest.fixture(autouse=True, params=[4, 64, 2**16])
def chunks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Chunks of one number, of some, and of all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_numbers, "CHUNK_CHARACTERS", request.param)
        yield


def read(body: str, limits: Limits = NO_LIMITS) -> AnyArray:
    return CODECS[JSON].decode(bytearray(body.encode()), RequestContext(["input"]), limits).tensors["input"]


def written(data: st.DataObject, shape: list[int], numbers: st.SearchStrategy[str]) -> str:
    """A nested list with whitespace anywhere."""
    if not shape:
        return data.draw(numbers)
    space = data.draw(SPACES)
    items = [written(data, shape[1:], numbers) for _ in range(shape[0])]
    return f"[{space}{f'{space},{space}'.join(items)}{space}]"


@quick_settings
@given(st.data(), st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_a_regular_list_is_read(data: st.DataObject, shape: list[int]) -> None:
    text = written(data, shape, st.sampled_from(NUMBERS))
    array = read(f'{{"input": {text}}}')
    expected = np.array(json.loads(text, parse_int=float))
    assert array.dtype == np.float64
    np.testing.assert_array_equal(array, expected, strict=True)
    np.testing.assert_array_equal(np.signbit(array), np.signbit(expected))


def shape_of(value: Any) -> tuple[int, ...] | None:
    """The shape of nested lists of numbers, None if they are anything else."""
    if type(value) in {int, float}:
        return ()
    if not isinstance(value, list):
        return None
    shapes = {shape_of(item) for item in value}
    if not value:
        return (0,)
    inner = shapes.pop()
    return None if shapes or inner is None else (len(value), *inner)


TOKENS = ["[", "]", ",", "1", "-2.5", "[]", "[1]", "[1,2]", "null", '"[1]"', "{}", " ", "1]", "[1", "],["]


@quick_settings
@given(st.data(), st.lists(st.integers(1, 3), min_size=1, max_size=3), st.sampled_from(TOKENS), st.integers(0, 2))
def test_a_list_that_is_changed_anywhere_is_refused_unless_it_is_regular(
    data: st.DataObject, shape: list[int], token: str, removed: int
) -> None:
    text = written(data, shape, st.just("1"))
    place = data.draw(st.integers(0, len(text)))
    text = text[:place] + token + text[place + removed :]
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        with pytest.raises(RequestProblem):
            read(f'{{"input": {text}}}')
        return
    expected = shape_of(value)
    if expected is None:
        with pytest.raises(InvalidRequest):
            read(f'{{"input": {text}}}')
    else:
        np.testing.assert_array_equal(read(f'{{"input": {text}}}'), np.array(value, float).reshape(expected))


@pytest.mark.parametrize("text", ["[1[,2]]", "[[1]2]", "[1 2]", "[[1][2]]", "[1,[,2]]", "[[1,2]", "[1,,2]", "[,1]"])
def test_brackets_where_no_list_has_them(text: str) -> None:
    with pytest.raises(UnreadablePayload):
        read(f'{{"input": {text}}}')


@pytest.mark.parametrize("shape", [(0,), (3, 0), (2, 0, 0), (1, 1, 1, 1, 1, 1, 1, 0)])
def test_empty_lists_have_a_shape(shape: tuple[int, ...]) -> None:
    assert (
        read(json.dumps({"input": np.empty(shape).tolist()})).shape[: shape.index(0) + 1] == shape[: shape.index(0) + 1]
    )


@pytest.mark.parametrize(
    ("dtype", "wrong"),
    [("float32", "1e39"), ("int8", "128"), ("uint64", "-1"), ("int64", "1.0"), ("float64", "9" * 18)],
)
def test_the_one_number_that_is_wrong_is_found_in_any_chunk(dtype: str, wrong: str) -> None:
    for place in (0, 1, 17, 99):
        numbers = ["10"] * 100
        numbers[place] = wrong
        rows = ",".join(f"[[{','.join(numbers[start : start + 4])}]]" for start in range(0, 100, 4))
        with pytest.raises(InvalidRequest) as caught:
            read(f'{{"dtype": "{dtype}", "input": [{rows}]}}')
        (finding,) = caught.value.findings
        assert finding.pointer == f"/input/{place // 4}/0/{place % 4}"


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ('{"input": 1, "input": [1]}', {"/input"}),
        ('{"input": 1, "\\u0069nput": 1}', {"/input"}),
        ('{"mode": "max", "input": 1, "mode": 1}', {"/mode"}),
        ('{"input": {"dtype": "int8", "shape": [1], "data": [1], "data": [1]}}', {""}),
        ('{"x": 1, "y": 1, "input": 1, "x": 2, "y": 3}', {"/x", "/y"}),
    ],
)
def test_a_member_that_is_repeated_is_refused(body: str, pointers: set[str]) -> None:
    with pytest.raises(InvalidRequest, match="more than once") as caught:
        read(body)
    assert {finding.pointer for finding in caught.value.findings} == pointers


# --------------------------------------------------------------------------------------------------------- known shapes


@pytest.mark.parametrize(
    "text", ["[1,2,3,4,5,6]", "[[1,2,3],[4,5,6]]", "[[1,2],[3,4],[5,6]]", "[[[1],[2]],[[3],[4]],[[5],[6]]]"]
)
def test_data_are_flat_or_nested(text: str) -> None:
    array = read_data(memoryview(text.encode()), "/x", np.dtype("float32"), (2, 3), NO_LIMITS)
    np.testing.assert_array_equal(array, np.array([[1, 2, 3], [4, 5, 6]], np.float32), strict=True)


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ("[1,2,3]", "/x"),
        ("[[1,2],[3]]", "/x/1"),
        ("7", "/x"),
        ('"[1,2]"', "/x"),
        ("[1,null]", "/x/1"),
        ("[[1],[0.5]]", "/x/1/0"),
    ],
)
def test_data_that_do_not_fit_are_refused(text: str, pointer: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_data(memoryview(text.encode()), "/x", np.dtype("int8"), (1, 2), NO_LIMITS)
    assert [finding.pointer for finding in caught.value.findings] == [pointer]
