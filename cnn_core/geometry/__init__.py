"""The geometry of windows: output sizes, padding, and which input elements each window covers.

This is the only package that computes an output size, a pad or a strided view. All of it works on one axis at a time,
so that one, two and three spatial axes are the same code:

* ``axis``: the windows along one axis, at equal distances;
* ``adaptive``: the windows that divide an axis into a requested number of parts;
* ``windows``: the windows over all axes of an input;
* ``padding``: how much padding an axis has, and what it is filled with;
* ``resolve``: from the parameters of an op to the windows over its input;
* ``transposed``: from the parameters of a transposed op to the windows over its output.
"""

from .adaptive import AdaptiveAxis
from .axis import Axis, AxisWindows, Piece
from .padding import require_padding_source
from .resolve import resolve_adaptive, resolve_windows
from .transposed import resolve_transposed
from .windows import AnyWindows, Windows

__all__ = [
    "AdaptiveAxis",
    "AnyWindows",
    "Axis",
    "AxisWindows",
    "Piece",
    "Windows",
    "require_padding_source",
    "resolve_adaptive",
    "resolve_transposed",
    "resolve_windows",
]
