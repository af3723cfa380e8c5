"""The table of edges of all layers, in the order in which they become cases."""

from __future__ import annotations

from .edges_avg import AVG_EDGES, LP_EDGES
from .edges_conv import CONV_EDGES
from .edges_integer import INTEGER_EDGES
from .edges_max import MAX_EDGES
from .edges_rearranging import REARRANGING_EDGES
from .edges_transposed import TRANSPOSED_EDGES

__all__ = ["EDGES"]

EDGES = (
    *CONV_EDGES,
    *TRANSPOSED_EDGES,
    *INTEGER_EDGES,
    *MAX_EDGES,
    *AVG_EDGES,
    *LP_EDGES,
    *REARRANGING_EDGES,
)
"""Every edge, with an id of its own."""
