"""All mistakes that the diagnosis must name."""

from __future__ import annotations

from tests.mistakes import table_conv, table_conv_gradients, table_pool, table_transposed
from tests.mistakes.mistake import Mistake

MISTAKES: tuple[Mistake, ...] = (
    *table_conv.KERNELS,
    *table_conv.WINDOW_MISTAKES,
    *table_conv_gradients.PADDING_MODES,
    *table_conv_gradients.BIASES,
    *table_conv_gradients.GRADIENT_MISTAKES,
    *table_conv_gradients.FURTHER,
    *table_transposed.TRANSPOSED,
    *table_transposed.FURTHER_TRANSPOSED,
    *table_pool.WINDOW_MISTAKES,
    *table_pool.MAXIMA,
    *table_pool.OTHERS,
    *table_pool.FURTHER_POOL,
)
