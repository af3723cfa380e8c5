"""Fixtures of the tests of generated clients: the document as a file, and where the generators are."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import pytest

collect_ignore = ["callers"]
"""They import clients that are not generated yet."""

NODE_MODULES = Path(sys.prefix) / "node_modules"


@pytest.fixture(scope="session")
def document(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``/openapi.json`` saved to a file, as people keep it beside their code."""
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    path.write_bytes(httpx.get(f"{server_url}/openapi.json").raise_for_status().content)
    return path


@pytest.fixture
def with_node_modules(tmp_path: Path) -> Path:
    """A folder in which Node finds the packages of the environment."""
    assert NODE_MODULES.is_dir(), "make test-generators installs them"
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    return tmp_path
