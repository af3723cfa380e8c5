"""For test suites of ports and kernels: ``assert_layer_matches`` compares functions with golden cases.

It needs NumPy alone. With ``convpool[client]``, and a server or ``convpool[service]``, a failure also says which
mistake the results look like.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnn_core import Conv, ConvInteger, ConvTranspose, Fold, MaxPool, MaxUnpool, QLinearConv, Unfold
from cnn_core.ops.base import Op

from .cases import Case, Cases, results_by_name

__all__ = ["assert_layer_matches"]

Array = NDArray[Any]

OPS: dict[str, type[Op]] = {
    "conv": Conv,
    "conv_transpose": ConvTranspose,
    "pool": MaxPool,
    "unpool": MaxUnpool,
    "unfold": Unfold,
    "fold": Fold,
    "conv_integer": ConvInteger,
    "qlinear_conv": QLinearConv,
}
"""An op of each layer: it knows the order of the operands."""

MAX_SHOWN = 5
"""Cases that differ of which a failure says where they do."""


class _Difference(NamedTuple):
    case: Case
    returned: dict[str, Array]
    lines: list[str]


def assert_layer_matches(
    forward: Callable[..., Any] | None,
    cases: str | os.PathLike[str] | bytes | IO[bytes] | Cases,
    *,
    backward: Callable[..., Any] | None = None,
    client: Any = None,
) -> None:
    """Assert that functions compute what golden cases say, to within rounding.

    Parameters
    ----------
    forward : callable or None
        Is called as ``forward(input, weight, bias, **parameters)``: the layer's operands in their order, None for one
        that a case does not have, and every parameter as a keyword. It returns the output; with indices, a pair, a
        named tuple or a mapping.
    cases : path, bytes, binary file or Cases
        An npz of ``convpool cases``.
    backward : callable, optional
        Is called as ``backward(grad_output, input, weight, bias, **parameters)``. It returns the gradients in the order
        of the operands, or as a mapping or a named tuple (``grad_input``, ...); what it leaves out, or gives as None,
        is not compared.
    client : convpool.client.Client, optional
        Which is asked what a difference looks like. By default it is a server, if ``CONVPOOL_URL`` names one, else this
        process, if ``convpool[client,service]`` is installed.

    Raises
    ------
    AssertionError
        If a result differs by more than the case allows: which, where first, and what it looks like.
    CasesError, OSError
        If the cases cannot be read.
    ValueError
        If there is nothing to compare.

    Examples
    --------
    ::

        def test_my_kernel():
            assert_layer_matches(my_conv, "cases.npz", backward=my_conv_backward)
    """
    __tracebackhide__ = True
    loaded = Cases.load(cases)
    compared = 0
    differences = []
    for case in loaded:
        returned = _returned(case, forward, backward)
        compared += len(returned)
        lines = [line for name, array in returned.items() for line in _compare(case, name, array)]
        if lines:
            differences.append(_Difference(case, returned, lines))
    if not compared:
        raise ValueError(f"{loaded!r}: none has results of a function that was given")
    if differences:
        raise AssertionError(_text(loaded, differences, client))


def _returned(case: Case, forward: Callable[..., Any] | None, backward: Callable[..., Any] | None) -> dict[str, Array]:
    """Call the functions, and return what they do by name."""
    operands = [case.operands.get(operand.name) for operand in OPS[case.layer].operands]
    gradients = [name for name in case.results if name.startswith("grad_")]
    outputs = [name for name in case.results if name not in gradients]
    returned = {}
    try:
        if forward is not None and outputs:
            returned = _by_name(forward(*operands, **case.parameters), outputs)
        if backward is not None and gradients:
            returned |= _by_name(backward(case.operands["grad_output"], *operands, **case.parameters), gradients)
    except Exception as error:
        error.add_note(f"called for {case.name} with {_written(case.parameters)}")
        raise
    return returned


def _by_name(returned: Any, names: Sequence[str]) -> dict[str, Array]:
    results = results_by_name(returned, names)
    unknown = set(results) - set(names)
    if unknown:
        raise ValueError(f"the results of this layer are {', '.join(names)}; the function returned {min(unknown)}")
    return results


def _compare(case: Case, name: str, got: Array) -> list[str]:
    """Return what there is to say of a result that differs; nothing if it does not."""
    expected, tolerance = case.results[name], case.tolerances[name]
    if got.shape != expected.shape:
        return [f"{name}: its shape is {got.shape}, and should be {expected.shape}"]
    if not got.size:
        return []
    ours, right = got.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinity - infinity
        is_off = ~((ours == right) | (np.isnan(ours) & np.isnan(right)) | (np.abs(ours - right) <= tolerance))
    if not is_off.any():
        return []
    first = tuple(map(int, np.argwhere(is_off)[0]))
    return [
        f"{name}: {int(is_off.sum())} of {got.size} elements are off",
        f"  first at {list(first)}: got {got[first]:.9g}, expected {expected[first]:.9g}, "
        + (f"tolerance {tolerance:.3g}" if tolerance else "exactly"),
    ]


def _text(cases: Cases, differences: Sequence[_Difference], client: Any) -> str:
    lines = [f"{len(differences)} of {len(cases)} cases of {cases.layer} differ"]
    for case, _, described in differences[:MAX_SHOWN]:
        lines += [f"{case.name}: {case.purpose}" if case.purpose else case.name]
        lines += [f"  {line}" for line in (*described, _written(case.parameters))]
    if len(differences) > MAX_SHOWN:
        lines += [f"and {len(differences) - MAX_SHOWN} more"]
    first = differences[0]
    lines += [f"what convpool says of {first.case.name}:"]
    lines += [f"  {line}" for line in _explained(first, client).splitlines()]
    return "\n".join(lines)


def _explained(difference: _Difference, client: Any) -> str:
    """Return what a service says of a difference, or why none does."""
    case = difference.case
    try:
        module = importlib.import_module("convpool.client")
        own = (
            module.Client(local="CONVPOOL_URL" not in os.environ) if client is None else contextlib.nullcontext(client)
        )
    except ModuleNotFoundError as error:
        return f"nothing, as {error.name} is not installed: pip install 'convpool[client,service]'"
    try:
        with own as asked:
            return str(asked.check(case.layer, case.operands, difference.returned, **case.parameters))
    except module.CallError as error:
        return f"nothing: {error}"


def _written(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in parameters.items())
