"""Ids of requests."""

from __future__ import annotations

import string

from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.observability.request_ids import request_id

PLAIN = (string.ascii_letters + string.digits + "._~:/+=@-").encode()


def is_plain(value: bytes) -> bool:
    return 1 <= len(value) <= 128 and all(byte in PLAIN for byte in value)


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(PLAIN), max_size=200).map(bytes)))
@example(b"x" * 128)
@example(b"x" * 129)
@example(b"line\n")
@example(b"")
def test_a_plain_id_is_kept_and_another_replaced(sent: bytes) -> None:
    found = request_id([(b"host", b"h"), (b"x-request-id", sent), (b"accept", b"*/*")])
    assert is_plain(found)
    assert (found == sent) == is_plain(sent)


def test_new_ids_are_all_different() -> None:
    assert len({request_id([]) for _ in range(1000)}) == 1000
