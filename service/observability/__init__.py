"""What an operator sees: metrics, logs, request ids and traces."""
