"""Which types this machine's BLAS multiplies in such a way that the place of a row makes no difference."""

from __future__ import annotations

import functools

import numpy as np

from cnn_core.runtime.blas import one_blas_thread

__all__ = ["adds_rows_alike"]


@functools.cache
def adds_rows_alike(dtype: str) -> bool:
    """Return whether equal rows get equal bits; kernels for AVX2 alternate between two orders in float32.

    See docs/algorithms.md, "Parts of arrays".
    """
    random = np.random.default_rng(0)
    for columns in (1, 8, 64):
        row, matrix = random.standard_normal(75).astype(dtype), random.standard_normal((75, columns)).astype(dtype)
        with one_blas_thread:
            products = [np.tile(row, (rows, 1)) @ matrix for rows in (24, 72)]
        if any((product != products[0][0]).any() for product in products):
            return False
    return True
