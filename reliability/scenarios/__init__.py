"""The scenarios of ``make chaos``; importing a module adds its own to SCENARIOS."""

from . import bodies, compute, connections, diagnosis, framing, memory, odd_requests, processes

__all__ = ["bodies", "compute", "connections", "diagnosis", "framing", "memory", "odd_requests", "processes"]
