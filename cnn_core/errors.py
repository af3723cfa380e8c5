"""The errors of the core: one base class, and one class for each thing that can be wrong; and what a stop raises."""

from __future__ import annotations

from typing import Any

__all__ = [
    "Cancelled",
    "ConvpoolError",
    "DeadlineExceeded",
    "DtypeError",
    "MissingAxisError",
    "OperandError",
    "ParameterError",
    "ShapeError",
    "describe",
    "number_of",
]


MAX_ECHOED = 40
"""An error quotes at most this many characters of a parameter's value."""


class ConvpoolError(ValueError):
    """Something that was given breaks a rule of an op.

    The message is composed of the parts: ``{subject} {rule} {expected}, {reason}; got {got}; {hint}``.

    Parameters
    ----------
    subject : str
        Name of the parameter or operand that is wrong, for example ``"stride"`` or ``"weight"``.
    rule : str
        The start of the rule, which ``expected`` completes, for example ``"must have"``.
    expected, got : str
        What was needed, and what came, in a few words. Never longer than a line, whatever was given.
    reason : str
        Where the rule comes from, unless it is plain.
    hint : str
        The likely cause, or what would mend it.
    """

    def __init__(self, subject: str, rule: str, expected: str, *, got: str, reason: str = "", hint: str = "") -> None:
        super().__init__(f"{subject} {rule} {expected}{reason and f', {reason}'}; got {got}{hint and f'; {hint}'}")
        self.subject = subject
        self.expected = expected
        self.got = got

    @property
    def message(self) -> str:
        """The rule, what came and what was needed, in one sentence."""
        return str(self)

    def add_hint(self, hint: str) -> None:
        """Add a hint at the likely cause to the end of the message."""
        self.args = (f"{self}; {hint}",)


class ParameterError(ConvpoolError):
    """A parameter of an op has a value that the op does not take."""


class ShapeError(ConvpoolError):
    """The shape of an operand does not fit the op's parameters or the other operands."""


class MissingAxisError(ShapeError):
    """An operand has one axis less than it must have."""


class DtypeError(ConvpoolError):
    """An operand has a data type that the op does not compute with."""


class OperandError(ConvpoolError):
    """An operand holds a value that the op does not take."""


class Cancelled(Exception):
    """A computation was stopped before its end, by ``Cancellation.cancel`` or, for the subclass, by a deadline."""


class DeadlineExceeded(Cancelled):
    """A computation was stopped because it reached the time limit of its ``Cancellation``."""


def number_of(number: int, singular: str, plural: str) -> str:
    """Write a count with its noun.

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
