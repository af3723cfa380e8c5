"""docs/client.md: its commands and programs run one after the other in one folder, and print what is printed there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "client.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+\.py)\n")


def test_everything_on_the_page_works_as_printed(server_url: str, tmp_path: Path) -> None:
    command = tmp_path / "bin" / "convpool"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m convpool "$@"\n')
    command.chmod(0o755)
    paths = [str(command.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = {
        **os.environ,
        "PATH": os.pathsep.join(paths),
        "PYTHONPATH": os.pathsep.join([str(PROJECT), str(tmp_path)]),
        "CONVPOOL_URL": server_url,
        "COLUMNS": "200",
    }
    printed = ""
    checked = 0
    for language, content in BLOCKS:
        if language == "text":
            assert printed == content
            checked += 1
        elif file := FILE.match(content):
            (tmp_path / file[1]).write_text(content)
        else:
            program = ["bash", "-euc", content] if language == "bash" else [sys.executable, "-c", content]
            ended = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            assert ended.returncode == 0, (content, ended.stdout, ended.stderr)
            printed = ended.stdout
    assert checked == 7


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", PAGE):
        file, _, heading = target.partition("#")
        text = (PROJECT / "docs" / file).read_text().lower()
        assert not heading or f"# {heading.replace('-', ' ')}" in text, target
