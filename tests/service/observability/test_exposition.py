"""The text of the metrics: written by one at a time, and not again and again."""

from __future__ import annotations

import anyio
import pytest

from service.observability import exposition, metrics
from service.observability.exposition import OPENMETRICS, TEXT, Exposition
from service.observability.metrics import RequestRecord
from tests.service.metrics import samples


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The media types of the texts that are written."""
    calls: list[str] = []
    write = exposition._written

    def counted(media_type: str) -> bytes:
        calls.append(media_type)
        return write(media_type)

    monkeypatch.setattr(exposition, "_written", counted)
    return calls


def test_however_many_ask_it_is_written_once(written: list[str]) -> None:
    texts: list[bytes] = []

    async def ask(shown: Exposition) -> None:
        texts.append(await shown.text(TEXT))

    async def all_at_once() -> None:
        shown = Exposition(60)
        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(ask, shown)
        await shown.text(OPENMETRICS)

    anyio.run(all_at_once)
    assert len(set(texts)) == 1
    assert written == [TEXT, OPENMETRICS]


@pytest.mark.parametrize("media_type", [TEXT, OPENMETRICS])
def test_it_holds_what_was_recorded_before(written: list[str], media_type: str) -> None:
    async def twice() -> list[float]:
        shown, found = Exposition(0), []
        for _ in range(2):
            metrics.record(RequestRecord("of_the_exposition", 200, 0, 0, 0.0, {}))
            text = (await shown.text(media_type)).decode()
            found.append(samples(text, media_type).sum("convpool_requests_total", operation="of_the_exposition"))
        return found

    first, second = anyio.run(twice)
    assert second == first + 1
    assert written == [media_type, media_type]
