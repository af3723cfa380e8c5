"""The example of a stack of images in Zarr, with a stack that does not fit the memory it may use."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.scale.memory import memory_limit

EXAMPLE = Path(__file__).parents[2] / "examples" / "zarr_stack.py"
LIMIT = 256 * 2**20


def test_a_stack_larger_than_memory_is_filtered_and_pooled(tmp_path: Path) -> None:
    """Four tenths of a gigabyte in a quarter of one, of which the interpreter and the libraries need a third."""
    command = [sys.executable, str(EXAMPLE), "--gigabytes", "0.4", "--size", "1024", "--folder", str(tmp_path)]
    with memory_limit(LIMIT) as group:
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, preexec_fn=group.join, cwd=EXAMPLE.parents[1]
        )
        peak = group.peak()
    assert ended.returncode == 0, ended.stderr
    assert peak <= LIMIT
    assert re.search(r"made up \(95, 1024, 1024, 1\), 0.40 GB", ended.stdout)
    assert re.search(r"filtered and pooled to \(95, 512, 512, 1\), 0.10 GB", ended.stdout)
    assert re.search(r"^compared", ended.stdout, re.MULTILINE)
    assert not any(tmp_path.iterdir())
