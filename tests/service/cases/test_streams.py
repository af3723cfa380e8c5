"""The words are those of Philox4x64-10, written here from its paper, and cases draw them as the docs say."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cases.streams import STREAMS, Draws, words

MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
WEYL = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
MASK = 2**64 - 1


def philox(key: tuple[int, int], counter: tuple[int, int, int, int]) -> list[int]:
    """Philox4x64-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3)."""
    (k0, k1), (c0, c1, c2, c3) = key, counter
    for _ in range(10):
        (high0, low0), (high1, low1) = (divmod(m * c, 2**64) for m, c in zip(MULTIPLIERS, (c0, c2), strict=True))
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return [c0, c1, c2, c3]


def documented(seed: int, case: int, stream: str, count: int) -> list[int]:
    blocks = (philox((seed, case), (block + 1, 0, 0, STREAMS[stream])) for block in range(-(-count // 4)))
    return [word for block in blocks for word in block][:count]


def test_philox_is_the_published_one() -> None:
    # the known answers of Random123
    expected = "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"
    assert " ".join(f"{word:016x}" for word in philox((0, 0), (0, 0, 0, 0))) == expected


@given(st.integers(0, 2**53 - 1), st.integers(0, 9999), st.sampled_from(sorted(STREAMS)), st.integers(0, 9))
def test_words_are_those_of_the_documented_stream(seed: int, case: int, stream: str, count: int) -> None:
    assert words(seed, case, stream, count).tolist() == documented(seed, case, stream, count)


def test_streams_do_not_depend_on_what_was_drawn_before() -> None:
    first = words(3, 4, "weight", 5)
    words(3, 4, "bias", 7)
    np.testing.assert_array_equal(words(3, 4, "weight", 5), first)
    np.testing.assert_array_equal(words(3, 4, "weight", 1, first_block=1), words(3, 4, "weight", 5)[4:])


def test_draws_take_one_word_each_but_none_without_a_choice() -> None:
    draws, expected = Draws(7, 2), documented(7, 2, "layer", 100)
    drawn = []
    for _ in range(100):
        assert draws.choose(["only"]) == "only"
        drawn.append(draws.between(3, 12))
    assert drawn == [3 + word % 10 for word in expected]
    assert draws.taken == 100


@pytest.mark.parametrize("name", STREAMS)
def test_the_numbers_of_streams_are_for_ever(name: str) -> None:
    published = {"layer": 0, "input": 1, "weight": 2, "bias": 3, "grad_output": 4, "indices": 5}
    published |= {"input_zero_point": 6, "weight_zero_point": 7, "output_zero_point": 8}
    published |= {"input_scale": 9, "weight_scale": 10, "output_scale": 11}
    assert STREAMS[name] == published[name]


def test_cases_of_one_seed_have_different_words() -> None:
    firsts = [words(1, case, "input", 1)[0] for case in range(100)]
    assert len(set(firsts)) == 100
    assert any(one > other for one, other in pairwise(firsts))
