"""The benchmark of the service: ``make bench-service``."""
