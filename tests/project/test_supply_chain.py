"""The audit of the locked packages: what it says depends on what the databases of vulnerabilities say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]
AUDIT = PROJECT / "requirements" / "audit.py"
STAND_IN = """
import json, os, sys
answers = json.loads(os.environ["ANSWERS"])
arguments = sys.argv
service = arguments[arguments.index("--vulnerability-service") + 1]
asked = "known" if "--no-deps" in arguments else "locked"
answer = answers.get(f"{service} {asked}")
if answer is not None:  # else the service cannot be reached
    with open(arguments[arguments.index("--output") + 1], "w") as report:
        json.dump({"dependencies": answer, "fixes": []}, report)
sys.exit(1 if answer is None or any(package.get("vulns") for package in answer) else 0)
"""
"""Takes the place of pip-audit: it gives the answers that it is told to give."""

CLEAN: dict[str, Any] = {"name": "numpy", "version": "2.4.6", "vulns": []}
SKIPPED: dict[str, Any] = {"name": "numpy", "skip_reason": "Dependency not found on PyPI and could not be audited"}
VULNERABLE: dict[str, Any] = {
    "name": "jinja2",
    "version": "2.10",
    "vulns": [{"id": "PYSEC-2019-217", "fix_versions": ["2.10.1"], "aliases": []}],
}
ALL_WELL = {"pypi known": [VULNERABLE], "pypi locked": [CLEAN, CLEAN]}


@pytest.mark.parametrize(
    ("answers", "status", "said"),
    [
        (ALL_WELL, 0, "Audited 2 packages with the database pypi: 0 have known vulnerabilities."),
        ({**ALL_WELL, "pypi locked": [CLEAN, VULNERABLE]}, 1, "jinja2 2.10: PYSEC-2019-217, fixed in 2.10.1"),
        ({}, 2, "NOT AUDITED"),
        ({"pypi known": [SKIPPED], "pypi locked": [SKIPPED]}, 2, "NOT AUDITED"),
        ({**ALL_WELL, "pypi locked": [CLEAN, SKIPPED]}, 2, "NOT AUDITED"),
        ({**ALL_WELL, "pypi locked": []}, 2, "NOT AUDITED"),
        ({"pypi known": [{**VULNERABLE, "vulns": []}], "pypi locked": [CLEAN]}, 2, "NOT AUDITED"),
        ({"osv known": [VULNERABLE], "osv locked": [CLEAN]}, 0, "Audited 1 packages with the database osv"),
    ],
    ids=[
        "clean",
        "vulnerable",
        "offline",
        "skipped",
        "some skipped",
        "nothing",
        "no advisories",
        "the second database",
    ],
)
@pytest.mark.parametrize("optional", [False, True])
def test_the_audit_never_says_more_than_it_knows(
    tmp_path: Path, answers: dict[str, Any], status: int, said: str, optional: bool
) -> None:
    (tmp_path / "pip_audit.py").write_text(STAND_IN)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "ANSWERS": json.dumps(answers)}
    command = [sys.executable, str(AUDIT), *(["--optional"] if optional else []), "requirements/service.txt"]
    ended = subprocess.run(command, env=environment, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert ended.stderr == ""
    assert said in ended.stdout
    assert ended.returncode == (0 if optional and status == 2 else status)
    assert ("NOT AUDITED" in ended.stdout) == (status == 2)
