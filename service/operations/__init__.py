"""The operations: which there are, their parameters, limits and execution."""
