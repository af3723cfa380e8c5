"""Where the server finds what the management port serves."""

__all__ = ["MANAGEMENT"]

MANAGEMENT = "convpool.management"
"""Key of that application in the state of the lifespan."""
