"""Serves golden cases: drawing the layers of many of them, before they are computed, may take seconds itself."""

from __future__ import annotations

from typing import Any

from ..cases import WRITERS, CasesTask, planning_work
from ..codecs import JSON_CODEC
from ..operations.operation import CatalogueEntry
from ..settings import Settings
from .handler import TaskHandler

__all__ = ["CasesHandler"]


class CasesHandler(TaskHandler):
    """Handles the requests for the golden cases of a layer.

    Parameters
    ----------
    entry : CatalogueEntry
    settings : Settings
    """

    def __init__(self, entry: CatalogueEntry, settings: Settings) -> None:
        super().__init__(CasesTask(entry), settings, (JSON_CODEC,), WRITERS)

    def _work_to_begin(self, call: Any, content: Any) -> int:
        """Add the work of planning, as far as the number of cases tells."""
        parameters = {} if content is None else content.parameters
        return super()._work_to_begin(call, content) + planning_work(parameters)
