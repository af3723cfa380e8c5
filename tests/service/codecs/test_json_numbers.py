"""A number in JSON is rounded once, to the type that it is read as, and keeps its sign."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from service.codecs import CODECS, Limits, RequestContext
from service.problems import InvalidRequest, UnreadablePayload
from tests.clients import ApplicationClient
from tests.service import payloads
from tests.service.payloads import JSON, AnyArray
from tests.strategies import thorough_settings

FORMATS = {"float16": (11, -14, 15), "float32": (24, -126, 127), "float64": (53, -1022, 1023)}
"""Bits of the significand, and the exponents of the smallest normal and the largest number (IEEE 754)."""
FORMS: dict[str, Callable[[str, str], str]] = {
    "number": lambda text, dtype: f'{{"dtype": "{dtype}", "input": {text}}}',
    "list": lambda text, dtype: f'{{"dtype": "{dtype}", "input": [[0.5], [{text}]]}}',
    "integers": lambda text, dtype: f'{{"input": [[0, {text}]], "dtype": "{dtype}"}}',
    "flat": lambda text, dtype: f'{{"input": {{"dtype": "{dtype}", "shape": [2, 1], "data": [1,{text}]}}}}',
    "last": lambda text, dtype: (
        f'{{"input": {{"data": [{text} ], "dtype": "{dtype}", "shape": [1]}}, "dtype": "int8"}}'
    ),
}
each_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
each_float = pytest.mark.parametrize("dtype", FORMATS)


def read(text: str | bytes) -> AnyArray:
    body = bytearray(text if isinstance(text, bytes) else text.encode())
    return CODECS[JSON].decode(body, RequestContext(["input"]), Limits(0, lambda _: None)).tensors["input"]


def rounded(value: Fraction, dtype: str) -> Fraction | None:
    """The nearest number of a type, half to even; None beyond its range."""
    precision, smallest, largest = FORMATS[dtype]
    exponent = smallest
    while abs(value) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    step = Fraction(2) ** (exponent - precision + 1)
    result = round(value / step) * step  # Fraction rounds half to even
    return result if abs(result) < Fraction(2) ** (largest + 1) else None


def decimal_text(value: Fraction) -> str:
    """All digits of a number whose denominator is a power of two."""
    places = value.denominator.bit_length() - 1
    digits = str(abs(value.numerator) * 5**places).rjust(places + 1, "0")
    return f"{'-' * (value < 0)}{digits[: len(digits) - places]}.{digits[len(digits) - places :]}0"


def require_rounded_once(text: str, dtype: str, form: Callable[[str, str], str]) -> None:
    expected = rounded(Fraction(text), dtype)
    if expected is None:
        with pytest.raises(InvalidRequest if dtype != "float64" else UnreadablePayload, match="beyond the range"):
            read(form(text, dtype))
        return
    value = read(form(text, dtype)).reshape(-1)[-1]
    assert value.dtype == dtype
    assert Fraction(float(value)) == expected
    assert np.signbit(value) == (text[0] == "-")


@st.composite
def numbers_near_ties(draw: st.DrawFn, dtype: str) -> str:
    """The middle between two numbers of a type, its smallest and largest among them, and what is next to it."""
    precision, smallest, largest = FORMATS[dtype]
    exponent = draw(st.sampled_from([smallest, smallest + 1, -1, 0, 1, largest]) | st.integers(smallest, largest))
    odd = draw(st.integers(0, 2**precision - 1) | st.sampled_from([0, 1, 2**precision - 1])) * 2 + 1
    middle = odd * Fraction(2) ** (exponent - precision)
    text = decimal_text(middle)
    zeros, change = draw(st.integers(0, 40)), draw(st.sampled_from(["", "1", "-"]))
    if change == "-":
        unit = Fraction(1, 10 ** (len(text) - text.index(".") - 1 + zeros))
        places = unit.denominator
        digits = str((middle - unit) * places).rjust(len(str(places)), "0")
        cut = len(digits) - len(str(places)) + 1
        text = f"{digits[:cut]}.{digits[cut:]}"
    else:
        text += "0" * zeros + change
    # the parser, orjson, takes zeros after 768 digits for more than zeros: the middle is rounded up
    assume(dtype != "float64" or len(text.replace(".", "").lstrip("0")) <= 768)
    return draw(st.sampled_from(["", "-"])) + text


@pytest.mark.one_in(4)
@each_form
@each_float
def test_numbers_near_ties_are_rounded_once(dtype: str, form: Callable[[str, str], str]) -> None:
    @settings(thorough_settings, max_examples=60)
    @given(numbers_near_ties(dtype))
    def rounds(text: str) -> None:
        require_rounded_once(text, dtype, form)

    rounds()


@each_float
@settings(thorough_settings, max_examples=60)
@given(
    st.from_regex(r"-?(0|[1-9][0-9]{0,25})\.[0-9]{1,30}([eE][+-]?[0-9]{1,2})?", fullmatch=True)
    | st.from_regex(r"-?(0|[1-9][0-9]{0,7})([eE][+-]?[0-9]{1,2})", fullmatch=True)
)
def test_any_decimal_is_rounded_once(dtype: str, text: str) -> None:
    require_rounded_once(text, dtype, FORMS["list"])


@pytest.mark.parametrize(
    ("dtype", "text", "value"),
    [
        ("float32", "1.00000017881393432617187500001", 1 + 2**-22),  # float64 has the middle for it
        ("float32", "1.000000178813934326171875", 1 + 2**-22),  # the middle itself: to even
        ("float32", "1.00000017881393432617187499999", 1 + 2**-23),
        ("float32", "16777217", 2.0**24),
        ("float32", "16777219", 2.0**24 + 4),
        ("float32", "16777217.0", 2.0**24),
        ("float32", "16777217.000000000000000000001", 2.0**24 + 2),
        ("float32", "9223372586610590000", 2.0**63 + 2**40),  # as JavaScript writes 2^63 + 2^39, and above it
        ("float32", "3.4028235677973366e38", float(np.finfo("float32").max)),
        ("float32", "3.4028235677973367e38", None),
        (
            "float32",
            "340282356779733661637539395458142568447",
            float(np.finfo("float32").max),
        ),  # below the middle to 2^128
        ("float32", "340282356779733661637539395458142568448", None),
        ("float32", "7.006492321624085354618e-46", 0.0),  # below the half of the smallest
        ("float32", "7.006492321624085354619e-46", 2.0**-149),
        ("float16", "2049", 2048.0),
        ("float16", "2051", 2052.0),
        ("float16", "2049.00000000000000000000001", 2050.0),
        ("float16", "65519.99999999999999999", 65504.0),
        ("float16", "65520", None),
        ("float16", "2.98023223876953125e-8", 0.0),
        ("float16", "2.980232238769531250001e-8", 2.0**-24),
        ("float32", "1e-99999999999999999999999", 0.0),
        ("float16", "0e99999999999999999999999", 0.0),
    ],
)
@pytest.mark.parametrize("sign", ["", "-"])
@each_form
def test_known_ties(dtype: str, text: str, value: float | None, sign: str, form: Callable[[str, str], str]) -> None:
    body = form(sign + text, dtype)
    if value is None:
        with pytest.raises(InvalidRequest, match="beyond the range"):
            read(body)
    else:
        number = read(body).reshape(-1)[-1]
        assert (number, np.signbit(number)) == (-value if sign else value, sign == "-")


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 2**63 + 1])
@each_float
@each_form
def test_an_integer_that_float64_would_round_is_refused(
    number: int, dtype: str, form: Callable[[str, str], str]
) -> None:
    with pytest.raises(InvalidRequest, match=r"integer that float64 cannot hold|beyond the range"):
        read(form(str(number), dtype))


# ------------------------------------------------------------------------------------------------------------------- -0


@pytest.mark.parametrize("end", ["", " ", "\n", "\t", "\r\n"])
@each_form
@each_float
def test_minus_zero_keeps_its_sign(dtype: str, form: Callable[[str, str], str], end: str) -> None:
    value = read(form("-0" + end, dtype)).reshape(-1)[-1]
    assert value == 0
    assert np.signbit(value)


@each_form
@each_float
def test_no_other_zero_gets_a_sign(dtype: str, form: Callable[[str, str], str]) -> None:
    for text in ("0", "0.0", "0e-0", "0E-0"):
        body = form(text, dtype)
        for beside in (
            '"more": -0, ',
            '"more": "-0, -0] 1e-0, ", ',
            '"-0": {"-0,": 1e-0}, ',
            '"more": [0, 1E-0, -0.0], ',
        ):
            value = read(body.replace('"input"', f'{beside}"input"')).reshape(-1)[-1]
            assert value == 0
            assert not np.signbit(value), beside


@given(st.lists(st.sampled_from(["-0", "0", "-0.0", "1e-0", "-1E-0", "-0e5", "7", "-0.5", "2049.0", "1024.5"])))
def test_signs_are_those_of_the_texts(texts: list[str]) -> None:
    for dtype in FORMATS:
        value = read(f'{{"dtype": "{dtype}", "input": [{",".join(texts)}]}}')
        assert value.tolist() == np.array([float(text) for text in texts]).astype(dtype).tolist()
        assert np.signbit(value).tolist() == [text[0] == "-" for text in texts]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "uint64"])
@each_form
def test_minus_zero_is_an_integer(dtype: str, form: Callable[[str, str], str]) -> None:
    if "0.5" in form("", dtype):
        return
    assert read(form("-0", dtype)).reshape(-1)[-1] == 0


def test_minus_zero_is_a_size_and_a_parameter(client: ApplicationClient) -> None:
    empty = '{"dtype": "float32", "shape": [-0, 1, 1], "data": []}'
    body = f'{{"mode": "max", "kernel_size": 1, "padding": -0, "input": {empty}}}'
    response = client.post("/pool/forward", **payloads.typed(JSON, body.encode()))
    assert response.json()["output"]["shape"] == [0, 1, 1]
    body = '{"mode": "max", "kernel_size": 1, "padding": [[-0, -0]], "input": [[[-0], [-0.0]]], "dilation": "-0"}'
    document = payloads.refused(client, "/pool/forward", 422, **payloads.typed(JSON, body.encode()))
    assert payloads.pointers(document) == ["/dilation"]
    response = client.post("/pool/forward", **payloads.typed(JSON, body.replace('"-0"', "1").encode()))
    assert response.text == '{"output":[[[-0.0],[-0.0]]]}\n'


def test_a_byte_order_mark_stays_outside_the_numbers() -> None:
    assert np.signbit(read(b'\xef\xbb\xbf{"input": -0}'))
    assert read(b'\xef\xbb\xbf{"input": 1.00000017881393432617187500001, "dtype": "float32"}') == 1 + 2**-22


@pytest.mark.parametrize("number", ["-0", "16777217.0", "1.00000017881393432617187500001", "16777217." + "0" * 100_000])
def test_a_flood_of_numbers_that_are_read_twice(client: ApplicationClient, number: str) -> None:
    count = 500_000 // len(number)
    body = {"mode": "max", "kernel_size": count, "input": [[["number"]] * count], "dtype": "float32"}
    text = json.dumps(body).replace('"number"', number)
    response = client.post("/pool/forward", **payloads.typed(JSON, text.encode()))
    (value,) = payloads.results(response, ["output"])["output"].reshape(-1).tolist()
    assert np.float32(value) == rounded(Fraction(number[:40]), "float32")


def test_a_body_nested_deeply_is_an_error_when_it_is_read_again(client: ApplicationClient) -> None:
    for levels in (100, 900, 1000):
        more = "[" * levels + "]" * levels
        for number in ("-0", "16777217.0"):
            body = f'{{"mode": "max", "kernel_size": 1, "dtype": "float32", "input": [[[{number}]]], "more": {more}}}'
            payloads.refused(client, "/pool/forward", 422, **payloads.typed(JSON, body.encode()))
