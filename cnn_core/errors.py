"""The errors of the core: one base class, and one class for each thing that can be wrong."""

from __future__ import annotations

from typing import Any

__all__ = ["ConvpoolError", "DtypeError", "OperandError", "ParameterError", "ShapeError", "describe", "number_of"]


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
    """Say what a value is in a few words, without repeating text or long numbers.

    Examples
    --------
    >>> describe(3), describe("valid"), describe([1, 2]), describe(10**50)
    ('3', 'a string of 5 characters', '[1, 2]', 'an integer of more than 18 digits')
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
        return f"a string of {len(value)} characters"
    if isinstance(value, (list, tuple)):
        if 0 < len(value) <= 3 and all(type(item) is int and abs(item) < 10**18 for item in value):
            return str(list(value))
        return f"a list of {len(value)} values"
    if isinstance(value, dict):
        return f"an object of {len(value)} members"
    return f"a value of type {type(value).__name__}"
