"""Docstrings of the ops, completed from what an op declares: its description, its parameters and its operands.

So each fact is written once. The source holds what is not declared: notes, examples, and what a method returns.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

__all__ = ["documented"]

OpType = TypeVar("OpType", bound=type[Any])

RETURNS = {
    "forward": "ndarray\n    The output, of the operands' common floating dtype; integers count as float64.",
    "backward": "ndarray, shape of input\n    Of the operands' common floating dtype.",
}
CLASS_RAISES = "ParameterError\n    If a parameter breaks its rule, or parameters contradict each other."
RAISES = """\
ParameterError
    If the number of entries of a per-axis parameter is not that of the spatial axes.
ShapeError
    If the shapes of the operands do not fit each other or the parameters.
DtypeError
    If an operand has a dtype other than those above."""


def documented(op: OpType) -> OpType:
    """Complete the docstrings of an op, or of a base of ops, and of the computations that it defines.

    The first paragraph of an op's docstring gives way to its description, which its parameters follow. The docstring of
    a method gets the sections Parameters, Returns (unless it has its own) and Raises.
    """
    if "description" in vars(op):
        _, _, sections = inspect.cleandoc(op.__doc__ or "").partition("\n\n")
        description = [_filled(text) for text in op.description.replace("`", "``").split("\n\n")]
        declared = [_section("Parameters", _parameters(op)), _section("Raises", CLASS_RAISES)]
        op.__doc__ = "\n\n".join([*description, *declared, sections])
    for name in RETURNS:
        method = vars(op).get(name)
        if method is not None:
            method.__doc__ = _method_docstring(op, method)
    return op


def _method_docstring(op: Any, method: Callable[..., Any]) -> str:
    summary, *rest = re.split(r"\n\n(Returns|Raises)\n-+\n", inspect.cleandoc(method.__doc__ or ""))
    own = dict(zip(rest[::2], rest[1::2], strict=True))
    return "\n\n".join(
        [
            summary,
            _section("Parameters", _arguments(op, method)),
            _section("Returns", own.get("Returns", RETURNS[method.__name__])),
            _section("Raises", "\n".join(filter(None, [RAISES, own.get("Raises")]))),
        ]
    )


def _parameters(op: Any) -> str:
    hints = get_type_hints(op)
    return _entries(
        (
            field.name,
            _type_text(hints[field.name])
            + (f", default {field.default!r}" if field.default is not dataclasses.MISSING else ""),
            field.metadata["description"],
        )
        for field in dataclasses.fields(op)
    )


def _arguments(op: Any, method: Callable[..., Any]) -> str:
    texts = {
        operand.name: (
            f"array_like{', optional' if operand.optional else ''}",
            f"{operand.description} Of dtype {', '.join(operand.dtypes) or 'float16, float32, float64 or an integer'}.",
        )
        for operand in op.operands
    }
    texts["grad_output"] = ("array_like", "Gradient with respect to the output of ``forward``, of its shape.")
    texts["wrt"] = ("sequence of str, optional", "The operands whose gradients are computed; all if not given.")
    return _entries((name, *texts[name]) for name in inspect.signature(method).parameters if name != "self")


def _entries(entries: Iterable[tuple[str, str, str]]) -> str:
    return "\n".join(f"{name} : {type_text}\n{_filled(text, '    ')}" for name, type_text, text in entries)


def _section(title: str, text: str) -> str:
    return f"{title}\n{'-' * len(title)}\n{text}"


def _filled(text: str, indent: str = "") -> str:
    return textwrap.fill(text, 116, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _type_text(hint: Any) -> str:
    """Write a type as numpydoc does.

    Examples
    --------
    >>> _type_text(int | tuple[int, ...] | Literal["valid", "same"] | None)
    'int or tuple of int or {"valid", "same"} or None'
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in {Union, UnionType}:
        return " or ".join(_type_text(argument) for argument in arguments)
    if origin is Literal:
        return "{" + ", ".join(f'"{word}"' for word in arguments) + "}"
    if origin is tuple:
        return f"tuple of {_type_text(arguments[0])}" if arguments[1:] == (...,) else "(before, after)"
    return "None" if hint is NoneType else str(hint.__name__)
