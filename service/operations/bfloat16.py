"""bfloat16, which the core does not know: computed in float32, and rounded once, to the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn_core.ops.base import Op, Operand

from ..codecs.message import BFLOAT16

__all__ = ["computable_types", "returned_types"]

Types = Mapping[str, np.dtype[Any]]
FLOAT32 = np.dtype(np.float32)


def computable_types(op: Op, operands: Sequence[Operand], dtypes: Types) -> Types:
    """Return the types that operands have when they are handed to the core, by name.

    Those of bfloat16 have the type that the op computes in: float32, unless another operand needs float64. They share
    in the common type as float32 does. An operand that may not be a floating number keeps its type, and is refused.
    """
    if BFLOAT16 not in dtypes.values():
        return dtypes
    convertible = {operand.name for operand in operands if not operand.dtypes or FLOAT32.name in operand.dtypes}
    names = [name for name, dtype in dtypes.items() if dtype == BFLOAT16 and name in convertible]
    computed_in = op.computation_dtype({**dtypes, **dict.fromkeys(names, FLOAT32)})
    return {**dtypes, **dict.fromkeys(names, computed_in)}


def returned_types(operands: Sequence[Operand], dtypes: Types, computed: Types) -> Types:
    """Return the types that results are returned in, by name, from those that the core computes them in.

    They are bfloat16 if that is the common type of the operands; results of a type of their own, such as indices, keep
    it.
    """
    if BFLOAT16 not in dtypes.values():
        return computed
    shared = {dtypes[operand.name] for operand in operands if not operand.dtypes and operand.name in dtypes}
    if shared != {BFLOAT16}:
        return computed
    return {name: BFLOAT16 if dtype == FLOAT32 else dtype for name, dtype in computed.items()}
