"""Convolution and pooling layers, forward and backward, in NumPy; ``convpool.service`` serves them over HTTP.

``from convpool import Conv`` is all that most programs need: these are the names of the package ``cnn_core``.
"""

from pathlib import Path

from cnn_core import *  # noqa: F403
from cnn_core import __all__ as __all__
from cnn_core import __version__ as __version__

if not (Path(__file__).parent / "service").is_dir():
    # a checkout, where the folders service/ and cnn_core/ are next to this one; a wheel has them in it
    __path__.append(str(Path(__file__).parents[1]))  # noqa: F405
