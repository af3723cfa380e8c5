"""The command ``convpool``, also as ``python -m convpool``: finds what runs each command, and what that needs."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from cnn_core import __version__

__all__ = ["main"]


class Command(NamedTuple):
    """A command: the module whose ``main`` runs it, the extra of the package that has what it needs, and its help."""

    module: str
    extra: str
    help: str


COMMANDS = {
    "serve": Command("convpool.service.cli", "service", "serve over HTTP"),
    "call": Command("convpool.client.cli", "client", "compute a layer or its gradients from .npy files"),
    "cases": Command(
        "convpool.client.cli", "client", "make golden cases of a layer, to test a port or a kernel against"
    ),
    "check": Command(
        "convpool.client.cli", "client", "compare your results with the right ones, and explain differences"
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    command = COMMANDS.get(arguments[0]) if arguments else None
    if command is None:
        _parser().parse_args(arguments)
        raise AssertionError("argparse ends where there is no command of this name")
    try:
        module = importlib.import_module(command.module)
    except ModuleNotFoundError as error:
        sys.exit(
            f"convpool {arguments[0]}: needs {error.name}, which is not installed: "
            f"pip install 'convpool[{command.extra}]'"
        )
    return int(module.main(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="convpool",
        description="Convolution and pooling layers, forward and backward: serve them, call them, check yours.",
        epilog="convpool COMMAND --help says more of each.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"convpool {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.help, add_help=False)
    return parser


if __name__ == "__main__":
    sys.exit(main())
