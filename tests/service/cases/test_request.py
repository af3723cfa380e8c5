"""Requests for cases: every fault is named, all at once, with a pointer and what would mend it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cases.call import draw_layer
from service.cases.request import MAX_COUNT, parsed
from service.problems import InvalidRequest
from tests.service.cases.oracles import ENTRIES, call_of


def pointers(layer: str, content: dict[str, Any]) -> list[str]:
    with pytest.raises(InvalidRequest) as refused:
        parsed(ENTRIES[layer], content)
    for finding in refused.value.findings:
        assert finding.message
        assert finding.expected
    return [finding.pointer for finding in refused.value.findings]


def test_an_empty_request_asks_for_ten_mixed_cases() -> None:
    call = call_of("pool")
    assert (call.count, call.kind, call.seed, call.dtype.name) == (10, "random", 0, "float32")
    assert call.directions == ("forward", "backward")
    assert call_of("conv_integer").dtype.name == "uint8"
    assert call_of("conv_integer").directions == ("forward",)


FAULTS = [
    ("conv", {"count": 0}, ["/count"]),
    ("conv", {"count": MAX_COUNT + 1}, ["/count"]),
    ("conv", {"count": True, "seed": -1}, ["/count", "/seed"]),
    ("conv", {"seed": 2**53}, ["/seed"]),
    ("conv", {"kind": "edge", "dtype": "bfloat16"}, ["/dtype", "/kind"]),
    ("conv_integer", {"dtype": "float32", "directions": ["backward"]}, ["/dtype", "/directions"]),
    ("conv", {"directions": []}, ["/directions"]),
    ("conv", {"counts": 3}, ["/counts"]),
    ("conv", {"stride": 2}, ["/stride"]),
    ("conv", {"parameters": "all"}, ["/parameters"]),
    ("conv", {"parameters": [1]}, ["/parameters"]),
    ("conv", {"shapes": [1]}, ["/shapes"]),
    ("conv", {"parameters": {"stride": 0, "pad": 1}}, ["/parameters/pad", "/parameters/stride"]),
    ("conv", {"parameters": {"stride": [1, 0, [2, "x"]]}}, ["/parameters/stride/1", "/parameters/stride/2"]),
    ("conv", {"parameters": {"stride": []}}, ["/parameters/stride"]),
    ("conv", {"parameters": {"stride": [1] * 101}}, ["/parameters/stride"]),
    ("conv", {"parameters": {"algorithm": "fft"}}, ["/parameters/algorithm"]),
    ("pool", {"parameters": {}}, ["/parameters/mode"]),
    ("pool", {"parameters": {"mode": "mean"}}, ["/parameters/mode"]),
    ("pool", {"parameters": {"mode": ["max", "mean"]}}, ["/parameters/mode/1"]),
    ("conv", {"shapes": {"input": [1, 2], "kernel": [3]}}, ["/shapes/input", "/shapes/kernel"]),
    ("conv", {"shapes": {"input": [1, [4, 2], "x", -1]}}, ["/shapes/input/1", "/shapes/input/2", "/shapes/input/3"]),
    ("conv", {"shapes": {"input": [1, [1, 2, 3], 2**31, [1.5, 2]]}}, [f"/shapes/input/{axis}" for axis in (1, 2, 3)]),
    ("conv", {"shapes": {"input": None, "weight": 3}}, ["/shapes/input", "/shapes/weight"]),
    ("fold", {"shapes": {"input": [1, 4, 4, 1]}}, ["/shapes/input"]),
    (
        "qlinear_conv",
        {"shapes": {"input_scale": [1], "weight_scale": [3, 3]}},
        ["/shapes/input_scale", "/shapes/weight_scale"],
    ),
]


@pytest.mark.parametrize(("layer", "content", "expected"), FAULTS)
def test_faults_are_named(layer: str, content: dict[str, Any], expected: list[str]) -> None:
    assert sorted(pointers(layer, content)) == sorted(expected)


def test_other_names_are_suggested() -> None:
    with pytest.raises(InvalidRequest, match="did you mean padding"):
        call_of("conv", parameters={"pads": 1})
    with pytest.raises(InvalidRequest, match="is direct in all cases"):
        call_of("conv", parameters={"algorithm": "direct"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**40) | st.floats() | st.sampled_from(["any", "max", "same", "x"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["input", "stride", "mode"]), inner),
    max_leaves=6,
)


@given(
    st.sampled_from(sorted(ENTRIES)),
    st.dictionaries(
        st.sampled_from(["parameters", "shapes", "dtype", "kind", "directions", "count", "seed"]), json_values
    ),
)
def test_whatever_is_sent_is_drawn_or_refused(layer: str, content: dict[str, Any]) -> None:
    """There is no other exception."""
    try:
        call = parsed(ENTRIES[layer], content)
        draw_layer(call, 0)
    except InvalidRequest:
        pass
    else:
        assert call.count >= 1
