"""The errors of the core: one base class, and one class for each thing that can be wrong."""

from __future__ import annotations

from typing import Any, Self

__all__ = ["ConvpoolError", "DtypeError", "OperandError", "ParameterError", "ShapeError", "describe", "number_of"]


MAX_ECHOED = 40
"""Characters of a parameter's value that an error repeats."""


class ConvpoolError(ValueError):
    """Something that was given breaks a rule of an op.

    Parameters
    ----------
    subject : str
        Name of the parameter or operand that is wrong, for example ``"stride"`` or ``"weight"``.
    message : str
        The rule, what came and what was needed, in one sentence.
    got : str
        What came, in a few words. Never longer than a line, whatever was given.
    expected : str
        What was needed, in a few words.
    """

    def __init__(self, subject: str, message: str, *, got: str, expected: str) -> None:
        super().__init__(message)
        self.subject = subject
        self.message = message
        self.got = got
        self.expected = expected

    def with_hint(self, hint: str) -> Self:
        """Return the same error with a hint at its likely cause at the end of the message."""
        return type(self)(self.subject, f"{self.message}; {hint}", got=self.got, expected=self.expected)


class ParameterError(ConvpoolError):
    """A parameter of an op has a value that the op does not take."""


class ShapeError(ConvpoolError):
    """The shape of an operand fits neither the op's parameters nor the other operands."""


class DtypeError(ConvpoolError):
    """An operand has a data type that the op does not compute with."""


class OperandError(ConvpoolError):
    """An operand holds a value that the op does not take."""


def number_of(number: int, singular: str, plural: str) -> str:
    """Write a number of things.

    Examples
    --------
    >>> number_of(1, "axis", "axes"), number_of(2, "axis", "axes")
    ('1 axis', '2 axes')
    """
    return f"{number} {singular if number == 1 else plural}"


def describe(value: Any) -> str:
    """Say what a parameter's value is in a few words: itself if it is short and printable, never long text or numbers.

    Examples
    --------
    >>> describe(3), describe("mean"), describe([1, 2]), describe(10**50), describe("x" * 50)
    ('3', '"mean"', '[1, 2]', 'an integer of more than 18 digits', 'a string of 50 characters')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) < 10**18 else "an integer of more than 18 digits"
    if isinstance(value, float):
        return f"the number {value!r}"
    if isinstance(value, str):
        is_short = len(value) <= MAX_ECHOED and value.isprintable()
        return f'"{value}"' if is_short else f"a string of {len(value)} characters"
    if isinstance(value, (list, tuple)):
        if 0 < len(value) <= MAX_ECHOED // 3 and all(type(item) in {int, float, bool, str} for item in value):
            text = f"[{', '.join(describe(item).removeprefix('the number ') for item in value)}]"
            if len(text) <= MAX_ECHOED:
                return text
        return f"a list of {number_of(len(value), 'value', 'values')}"
    if isinstance(value, dict):
        return f"an object of {len(value)} members"
    return f"a value of type {type(value).__name__}"
