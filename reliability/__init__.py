"""Programs that attack a running server, measure it meanwhile, and say what held: docs/reliability.md."""
