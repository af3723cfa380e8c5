"""Golden cases: operands and results of layers, drawn from a seed, that a port is tested against."""

from .request import cases_model
from .task import CasesTask, planning_work
from .writers import WRITERS

__all__ = ["WRITERS", "CasesTask", "cases_model", "planning_work"]
