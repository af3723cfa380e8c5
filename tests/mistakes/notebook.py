"""The notebook that this project comes from: its four functions, run as they are.

``notebook_functions.txt`` has them unchanged. They read what they are not given from the notebook's globals, so each
call here has globals of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.mistakes.layers import AnyArray

NOTEBOOK_FUNCTIONS = Path(__file__).parent / "notebook_functions.txt"
SOURCE = compile(NOTEBOOK_FUNCTIONS.read_text(), "notebook_functions.txt", "exec")


class OldArray(np.ndarray[Any, np.dtype[Any]]):
    """An array of one element that is a float, as in the NumPy of the notebook (before 2.4, at any number of axes)."""

    def __float__(self) -> float:
        return float(self.item())


def notebook(**globals_of_its_cells: Any) -> dict[str, Any]:
    """The functions of the notebook after cells that set these globals."""
    names: dict[str, Any] = {"np": np, **globals_of_its_cells}
    exec(SOURCE, names)
    return names


def bias_of(values: AnyArray) -> AnyArray:
    """A bias in the notebook's shape, (1, 1, 1, C)."""
    return values.reshape(1, 1, 1, -1).view(OldArray)
