"""The command ``convpool``, also as ``python -m convpool``."""

import importlib
import sys

__all__ = ["main"]


def main() -> int:
    """Run the command and return its exit status."""
    try:
        cli = importlib.import_module("convpool.service.cli")
    except ModuleNotFoundError as error:
        sys.exit(f"convpool: serving needs {error.name}, which is not installed: pip install 'convpool[service]'")
    return int(cli.main())


if __name__ == "__main__":
    sys.exit(main())
