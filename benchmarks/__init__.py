"""Benchmarks: convpool against other engines, and against other versions of itself."""
