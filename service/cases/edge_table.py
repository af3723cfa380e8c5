"""The table of edges of all layers, in the order in which they become cases."""

from __future__ import annotations

from .edges_conv import CONV_EDGES, INTEGER_EDGES, TRANSPOSED_EDGES
from .edges_pool import POOL_EDGES, REARRANGING_EDGES

__all__ = ["EDGES"]

EDGES = (*CONV_EDGES, *TRANSPOSED_EDGES, *INTEGER_EDGES, *POOL_EDGES, *REARRANGING_EDGES)
"""Every edge, with an id of its own."""
