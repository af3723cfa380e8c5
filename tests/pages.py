"""The pages of the docs: their blocks, run one after the other as a reader runs them, and their links."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["PRINTED_SERVER", "PROJECT", "Block", "Page"]

PROJECT = Path(__file__).parents[1]
PRINTED_SERVER = "http://127.0.0.1:8000"
FENCED = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+\.py)\n")
LINK = re.compile(r"\]\((?!https?:)([^)]+)\)")


class Block(NamedTuple):
    """What stands between two fences, and the language that it is in."""

    language: str
    content: str


class Page:
    """A page of the docs.

    Parameters
    ----------
    path : str
        Within the project, such as ``docs/client.md``.
    """

    def __init__(self, path: str) -> None:
        self.path = PROJECT / path
        self.text = self.path.read_text()
        self.blocks = [Block(*found) for found in FENCED.findall(self.text)]

    def of(self, language: str) -> list[str]:
        """Return the blocks in a language."""
        return [block.content for block in self.blocks if block.language == language]

    def outputs(self, folder: Path, server_url: str) -> Iterator[tuple[str, str]]:
        """Do what the page says in a folder, and yield for each output what is on the page and what was printed.

        ``bash`` and ``python`` are run; what begins with ``# name.py`` is written to that file; a ``diff`` changes the
        lines of one of the files; ``text`` is the output of what was run last.
        """
        environment = _environment(folder, server_url)
        printed = ""
        for language, content in self.blocks:
            if language == "text":
                yield content, printed
            elif language == "diff":
                _change(folder, content)
            elif file := FILE.match(content):
                (folder / file[1]).write_text(content)
            elif language in {"bash", "python"}:
                program = content.replace(PRINTED_SERVER, server_url)
                command = ["bash", "-euc", program] if language == "bash" else [sys.executable, "-c", program]
                ended = subprocess.run(
                    command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
                )
                assert ended.returncode == 0, f"{content}{ended.stdout}{ended.stderr}"
                printed = ended.stdout

    def broken_links(self) -> Iterator[str]:
        """Yield links to files and headings that do not exist."""
        for target in LINK.findall(FENCED.sub("", self.text)):
            file, _, heading = target.partition("#")
            path = self.path.parent / file if file else self.path
            if not path.exists() or (heading and heading not in _headings(path)):
                yield target


def _environment(folder: Path, server_url: str) -> dict[str, str]:
    """Return an environment with the command ``convpool``, and with modules from the folder."""
    command = folder / "bin" / "convpool"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m convpool "$@"\n')
    command.chmod(0o755)
    paths = [str(command.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
    return {
        **os.environ,
        "PATH": os.pathsep.join(paths),
        "PYTHONPATH": os.pathsep.join([str(PROJECT), str(folder)]),
        "PYTHONDONTWRITEBYTECODE": "1",  # a file may change twice within a second
        "CONVPOOL_URL": server_url,
        "COLUMNS": "200",
    }


def _change(folder: Path, diff: str) -> None:
    """Replace the lines that begin with - by those that begin with +, in the one file that has them."""
    lines = diff.splitlines(keepends=True)
    before, after = ("".join(line[1:] for line in lines if line[0] == sign) for sign in "-+")
    files = [file for file in folder.glob("*.py") if before in file.read_text()]
    assert len(files) == 1, diff
    text = files[0].read_text()
    assert text.count(before) == 1, diff
    files[0].write_text(text.replace(before, after))


def _headings(path: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    found = re.findall(r"^#+ (.*)$", FENCED.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in found}
