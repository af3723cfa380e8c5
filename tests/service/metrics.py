"""Reading metrics as Prometheus does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from service.observability.exposition import OPENMETRICS, TEXT

__all__ = ["Scrape", "samples"]

PARSERS: dict[str, Callable[[str], Iterable[Any]]] = {TEXT: read_text, OPENMETRICS: read_openmetrics}


def samples(text: str, media_type: str = TEXT) -> Scrape:
    """The samples of a text, which must be well-formed."""
    return Scrape(PARSERS[media_type](text))


class Scrape:
    """What one scrape returned."""

    def __init__(self, families: Iterable[Any]) -> None:
        self._samples = [sample for family in families for sample in family.samples]

    @property
    def names(self) -> set[str]:
        return {str(sample.name) for sample in self._samples}

    def values(self, name: str, **labels: str) -> Iterator[float]:
        for sample in self._samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                yield float(sample.value)

    def sum(self, name: str, **labels: str) -> float:
        """The sum of all samples of a name that have these labels."""
        return sum(self.values(name, **labels))

    def labels(self, name: str, label: str) -> set[str]:
        return {sample.labels[label] for sample in self._samples if sample.name == name}
