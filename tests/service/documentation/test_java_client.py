"""Clients in other languages, with the HTTP client that each language comes with, as it is by default."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CLIENTS = Path(__file__).parents[1] / "clients"
OLDEST_JAVA = 15
"""The first with text blocks."""
OLDEST_NODE = 18
"""The first with fetch."""
OUTPUT = [[[[-3.5], [-3.5], [3.5]], [[-3.5], [-3.5], [6.5]], [[7.5], [8.5], [9.5]]]]


def installed(command: str, version_option: str, oldest: int) -> str:
    """The path of a command; skips the test if the machine has none, or one that is too old for the client."""
    path = shutil.which(command)
    if path is None:
        pytest.skip(f"{command} is not installed")
    version = subprocess.run([path, version_option], capture_output=True, text=True, check=False, timeout=60)
    found = re.search(r"(\d+)[.\"+-]", version.stdout + version.stderr)
    if version.returncode != 0 or found is None or int(found.group(1)) < oldest:
        pytest.skip(f"{command} {oldest} or newer is not installed")
    return path


def answer_to(*command: str) -> Any:
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return json.loads(ran.stdout)


def test_java_s_http_client_with_default_settings(server_url: str) -> None:
    java = installed("java", "-version", OLDEST_JAVA)
    installed("javac", "-version", OLDEST_JAVA)  # compiles the source file on the way; a bare runtime lacks it
    assert answer_to(java, str(CLIENTS / "ConvForward.java"), server_url) == {"output": OUTPUT}


def test_javascript_s_fetch(server_url: str) -> None:
    node = installed("node", "--version", OLDEST_NODE)
    assert answer_to(node, str(CLIENTS / "conv_forward.mjs"), server_url) == {"output": OUTPUT}
