"""What the commands share: flags, files of operands, and what is shown in a terminal."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from ..clients import DEFAULT_TIMEOUT, Client
from ..operations import OPERANDS
from ..reports import Line

__all__ = [
    "Given",
    "UsageError",
    "checked_layer",
    "client_of",
    "command_parser",
    "flag_of",
    "load",
    "nearest",
    "parse",
    "show",
    "waiting",
]

LAYERS = tuple(name.removesuffix("_forward") for name in OPERANDS if name.endswith("_forward"))
FLAG = re.compile(r"--[A-Za-z]")


class UsageError(Exception):
    """The command was given what it cannot use."""


class Given(NamedTuple):
    """The arguments of a command: those of its parser, and the flags of any name with their values."""

    own: argparse.Namespace
    flags: dict[str, list[str]]

    def texts(self, *others: str) -> dict[str, str]:
        """Return the flags but some as the service reads parameters: no value is true, several are a list."""
        return {
            name: ",".join(values) if values else "true" for name, values in self.flags.items() if name not in others
        }


def command_parser(command: str, description: str, usage: str, epilog: str) -> argparse.ArgumentParser:
    """Return a parser with the flags that all commands have."""
    parser = argparse.ArgumentParser(
        prog=f"convpool {command}",
        description=description,
        usage=f"convpool {command} {usage}",
        epilog=epilog,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--url", help="of the server (default: CONVPOOL_URL, or http://127.0.0.1:8000)")
    where.add_argument("--local", action="store_true", help="compute in this process; needs convpool[service]")
    parser.add_argument("--timeout", type=float, help="seconds to wait for the server (default: 120)")
    return parser


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Given:
    """Parse arguments: what the parser does not know must be flags, ``--name value ...`` or ``--name=value``.

    Raises
    ------
    UsageError
    """
    own, others = parser.parse_known_args(arguments)
    flags: dict[str, list[str]] = {}
    values: list[str] | None = None
    for each in others:
        if FLAG.match(each):
            name, assigned, value = each.removeprefix("--").partition("=")
            name = name.replace("-", "_")
            if name in flags:
                raise UsageError(f"{flag_of(name)} is given twice")
            values = flags[name] = [value] if assigned else []
        elif values is None or (each.startswith("-") and not re.match(r"-[\d.]", each)):
            raise UsageError(f"unexpected argument {each}; flags are written --name value")
        else:
            values.append(each)
    return Given(own, flags)


def flag_of(name: str) -> str:
    """Return the flag of an operand or a parameter."""
    return f"--{name.replace('_', '-')}"


def nearest(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error that something has a name that is not known."""
    names = list(known)
    close = difflib.get_close_matches(name, names, 1)
    meant = f"; did you mean {close[0]}?" if close else ""
    return UsageError(f"there is no {kind} {name!r}{meant} There are: {', '.join(names)}")


def checked_layer(name: str) -> str:
    """Return the name of a layer if it is one.

    Raises
    ------
    UsageError
    """
    if name not in LAYERS:
        raise nearest("layer", name, LAYERS)
    return name


def load(flag: str, values: Sequence[str]) -> NDArray[Any]:
    """Read the .npy file that a flag names; a number is taken as it is, such as a zero point or a scale.

    Raises
    ------
    UsageError
    """
    written = flag_of(flag)
    if len(values) != 1:
        raise UsageError(f"{written} takes one .npy file; got {len(values)} values")
    with contextlib.suppress(ValueError):
        return np.array(float(values[0]))
    try:
        array = np.load(values[0], allow_pickle=False)
    except OSError as error:
        raise UsageError(f"{written} {values[0]}: {error.strerror or 'is no .npy file'}") from None
    except (ValueError, EOFError):
        raise UsageError(f"{written} {values[0]}: is no .npy file, as numpy.save writes it") from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise UsageError(f"{written} {values[0]}: is an .npz with several arrays; save one as .npy (numpy.save)")
    return array


def client_of(own: argparse.Namespace) -> Client:
    """Return the client that the flags ask for.

    Raises
    ------
    UsageError
    ModuleNotFoundError
        If what ``--local`` needs is not installed.
    """
    timeout = DEFAULT_TIMEOUT if own.timeout is None else own.timeout
    try:
        return Client(own.url, local=own.local, timeout=timeout)
    except ValueError as error:
        raise UsageError(str(error)) from None


def show(lines: Iterable[Line], console: Console | None = None, indent: str = "") -> None:
    """Print lines, in colours if there is a terminal."""
    console = console or Console()
    for line in lines:
        console.print(Text(f"{indent}{line.text}", line.style), soft_wrap=True)


@contextlib.contextmanager
def waiting(text: str) -> Iterator[None]:
    """Show in a terminal that the server is being waited for."""
    console = Console(stderr=True)
    with console.status(text) if console.is_terminal else contextlib.nullcontext():
        yield
