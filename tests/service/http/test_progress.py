"""By how much a transfer may fall behind."""

from service.http.progress import Progress


def test_a_transfer_at_the_minimum_rate_never_stalls() -> None:
    progress = Progress(slack=5, rate=1000, now=0)
    for second in range(1, 100):
        assert progress.deadline > second
        progress.add(1000, second)


def test_a_byte_now_and_then_buys_next_to_nothing() -> None:
    progress = Progress(slack=5, rate=1000, now=0)
    for second in range(1, 5):
        progress.add(1, second)
    assert 5 < progress.deadline < 5.1


def test_a_fast_beginning_does_not_pay_for_a_long_pause() -> None:
    progress = Progress(slack=5, rate=1000, now=0)
    progress.add(10**9, now=2)
    assert progress.deadline == 7
