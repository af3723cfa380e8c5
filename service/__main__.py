"""Lets ``python -m service`` do what the command ``convpool`` does."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
