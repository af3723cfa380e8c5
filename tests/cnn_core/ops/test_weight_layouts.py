"""A weight in another framework's layout: the error says how its axes were read, and which layout the shapes fit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cnn_core import Conv, ConvInteger, ConvpoolError, ConvTranspose

LAYOUTS = {
    "(*kernel, C/groups, C_out)": lambda kernel, inner, outer: (*kernel, inner, outer),
    "(*kernel, C_out, C/groups)": lambda kernel, inner, outer: (*kernel, outer, inner),
    "(C_out, C/groups, *kernel)": lambda kernel, inner, outer: (outer, inner, *kernel),
    "(C/groups, C_out, *kernel)": lambda kernel, inner, outer: (inner, outer, *kernel),
    "(C_out, *kernel, C/groups)": lambda kernel, inner, outer: (outer, *kernel, inner),
}
OWN = {"channels_last": "(*kernel, C/groups, C_out)", "channels_first": "(C_out, C/groups, *kernel)"}


def input_shape(data_format: str, rank: int, channels: int) -> tuple[int, ...]:
    return (1, *[9] * rank, channels) if data_format == "channels_last" else (1, channels, *[9] * rank)


def message(op: Any, *shapes: Any) -> str:
    try:
        op.resolve(*shapes)
    except ConvpoolError as error:
        return error.message
    return ""


@given(
    kind=st.sampled_from([Conv, ConvTranspose, ConvInteger]),
    data_format=st.sampled_from(sorted(OWN)),
    layout=st.sampled_from(sorted(LAYOUTS)),
    rank=st.integers(1, 3),
    size=st.integers(1, 5),
    inner=st.integers(1, 6),
    outer=st.integers(1, 12),
    groups=st.integers(1, 3),
)
def test_the_layout_that_the_weight_has_is_named(
    kind: Any, data_format: Any, layout: str, rank: int, size: int, inner: int, outer: int, groups: int
) -> None:
    assume(outer % groups == 0)
    channels = outer if kind is ConvTranspose else inner * groups
    bias = () if kind is ConvInteger else ((inner * groups if kind is ConvTranspose else outer,),)
    shape = LAYOUTS[layout]((size,) * rank, inner, outer)
    said = message(kind(data_format=data_format, groups=groups), input_shape(data_format, rank, channels), shape, *bias)
    if layout == OWN[data_format]:
        assert not said
    assume(said)
    assert f"weight {shape} is read as (" in said
    assert f"a weight laid out as {layout}" in said or f"or {layout}" in said or "the shapes fit data_format=" in said


@given(data_format=st.sampled_from(sorted(OWN)), kernel=st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_how_the_axes_are_read(data_format: Any, kernel: list[int]) -> None:
    shape = LAYOUTS[OWN[data_format]](kernel, 2, 5)
    said = message(
        Conv(data_format=data_format), input_shape(data_format, len(kernel), 2), shape, (11,)
    )  # no size is 11
    sizes = {"*kernel": f"kernel {'x'.join(map(str, kernel))}", "C/groups": "C/groups=2", "C_out": "C_out=5"}
    reading = OWN[data_format]
    for axis, text in sizes.items():
        reading = reading.replace(axis, text)
    assert f"weight {shape} is read as {reading}" in said
    assert "the shapes fit" not in said


@pytest.mark.parametrize(
    ("data_format", "shapes", "ending"),
    [
        ("channels_first", [(1, 3, 8, 8), (3, 3, 3, 4), (4,)], "a weight laid out as (*kernel, C/groups, C_out)"),
        (
            "channels_first",
            [(1, 3, 8, 8), (3, 4, 3, 3)],
            "a weight laid out as (C/groups, C_out, *kernel) (C/groups and C_out exchanged)",
        ),
        ("channels_first", [(1, 3, 8, 8), (3, 3, 3, 64)], "a weight laid out as (*kernel, C/groups, C_out)"),
        ("channels_last", [(1, 3, 8, 8), (4, 3, 3, 3)], "data_format=channels_first"),
        (
            "channels_last",
            [(1, 3, 8, 8), (3, 3, 3, 4)],
            "data_format=channels_first and a weight laid out as (*kernel, C/groups, C_out)",
        ),
    ],
)
def test_the_mistakes_of_ports(data_format: Any, shapes: list[tuple[int, ...]], ending: str) -> None:
    assert message(Conv(data_format=data_format), *shapes).endswith(f"; the shapes fit {ending}")
