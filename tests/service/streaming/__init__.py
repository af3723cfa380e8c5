"""Batches that are computed while they arrive."""
