"""A drawn layer that does not exist: its parameters and shapes do not go together, so another one is drawn."""

from __future__ import annotations

from cnn_core import ConvpoolError

from ..codecs.names import pointer_to
from ..operations.operation import CatalogueEntry
from ..problems import Finding

__all__ = ["Unfit"]


class Unfit(Exception):
    """What keeps a drawn layer from being valid.

    Parameters
    ----------
    finding : Finding
        With a pointer into the request for cases.
    """

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding

    @classmethod
    def because(cls, entry: CatalogueEntry, error: ConvpoolError) -> Unfit:
        """Return what an error of the core says of a layer of an entry."""
        names = {operand.name for operand in entry.operands}
        parent = "/shapes" if error.subject in names else "/parameters"
        return cls(Finding(parent + pointer_to(error.subject), error.message, error.got, error.expected))
