"""The mistakes that are tried: each is an entry in one of these tables.

A further one is an entry, and a test that makes the mistake in a loop (``tests/mistakes``).
"""

from .biases import BIASES
from .hypothesis import Altered, Hypothesis, Results, ResultsHypothesis, Variant
from .loops import LOOPS
from .paddings import PADDINGS
from .parameters import PARAMETERS
from .readings import READINGS
from .results import OTHER_RESULTS

__all__ = ["COMPUTATIONS", "RESULTS", "Altered", "Hypothesis", "Results", "ResultsHypothesis", "Variant"]

COMPUTATIONS: tuple[Hypothesis, ...] = (*PARAMETERS, *READINGS, *PADDINGS, *LOOPS)
"""Mistakes in what is computed, in the order in which they are named where several lead to the same results."""

RESULTS: tuple[ResultsHypothesis, ...] = (*BIASES, *OTHER_RESULTS)
"""Mistakes in what is done with the results, in that order."""
