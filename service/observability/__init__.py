"""What an operator sees: metrics, logs, request ids and traces."""

from . import shared_directory  # noqa: F401  (before prometheus-client is imported, as that module says)
