"""The check of what somebody computed: is it right, where is it not, and what mistake leads to just that."""

from .task import CLAIMED, CheckTask, ReportWriter, diagnose

__all__ = ["CLAIMED", "CheckTask", "ReportWriter", "diagnose"]
