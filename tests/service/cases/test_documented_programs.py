"""The programs of docs/golden-cases.md run as printed: they agree with all cases, and notice a mistake."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.cases.edge_table import EDGES
from service.cases.manifest import PURPOSES
from tests.pages import PRINTED_SERVER, Page
from tests.service.cases.digests import BY_TYPE, computed, written

PAGE = Page("docs/golden-cases.md")
RIGHT, MISTAKEN = "- top + r", "+ r"
"""What the programs do with the padding above the input, and what they do without."""

COMMANDS = {
    "python": ("conv.py", [sys.executable, "conv.py"]),
    "js": ("conv.mjs", ["node", "conv.mjs"]),
    "rust": ("conv.rs", ["bash", "-euc", "rustc conv.rs && ./conv"]),
    "java": ("GoldenCases.java", ["java", "GoldenCases.java"]),
}
PROGRAMS = {"python": sys.executable, "js": "node", "rust": "rustc", "java": "java"}


def block(language: str, number: int = 0) -> str:
    return PAGE.of(language)[number]


@pytest.fixture(scope="module")
def folder(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the page's commands have put the cases."""
    if not (shutil.which("bash") and shutil.which("curl")):
        pytest.skip("bash or curl is not installed")
    folder = tmp_path_factory.mktemp("cases")
    for number in (0, 1):
        command = block("bash", number).replace(PRINTED_SERVER, server_url)
        subprocess.run(["bash", "-euc", command], cwd=folder, check=True, timeout=60, capture_output=True)
    return folder


@pytest.mark.parametrize("language", COMMANDS)
def test_a_program_agrees_with_all_cases_and_notices_a_mistake(folder: Path, tmp_path: Path, language: str) -> None:
    if shutil.which(PROGRAMS[language]) is None:
        pytest.skip(f"{PROGRAMS[language]} is not installed")
    for name in ("cases.npz", "cases.jsonl"):
        (tmp_path / name).symlink_to(folder / name)
    file, command = COMMANDS[language]
    program = block(language)
    assert program.count(RIGHT) == 1

    def run(text: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / file).write_text(text)
        ran = subprocess.run(command, cwd=tmp_path, check=False, timeout=120, capture_output=True, text=True)
        assert not ran.stderr, ran.stderr
        return ran

    right = run(program)
    assert right.stdout == "100 of 100 cases agree\n"
    assert right.returncode == 0
    mistaken = run(program.replace(RIGHT, MISTAKEN))
    assert mistaken.returncode == 1
    *named, counted = mistaken.stdout.splitlines()
    padded = [
        case["name"]
        for case in map(json.loads, (folder / "cases.jsonl").read_text().splitlines())
        if case["parameters"]["padding"][0][0]
    ]
    assert {line.split()[0] for line in named} <= set(padded)
    assert len(named) > len(padded) // 2
    assert counted == f"{100 - len(named)} of 100 cases agree"


def test_the_program_in_go_is_the_same_but_not_run() -> None:
    program = block("go")
    assert program.count(RIGHT) == 1
    assert 'os.Open("cases.jsonl")' in program


def test_programs_need_no_escapes() -> None:
    """The small parsers of the page know none."""
    for purpose in (*PURPOSES.values(), *(edge.purpose for edge in EDGES)):
        assert purpose.isascii()
        assert not {'"', "\\"} & set(purpose)


def test_the_manifest_is_as_printed() -> None:
    printed = json.loads(block("json", 1))
    manifest = json.loads(computed("conv", seed=1, count=1).manifest())
    assert list(printed) == list(manifest)
    assert printed["format"] == manifest["format"]
    (case,), (printed_case,) = manifest["cases"], printed["cases"]
    assert list(printed_case) == list(case)
    assert list(printed_case["parameters"]) == list(case["parameters"])
    assert set(printed_case["results"]["output"]) == set(case["results"]["output"])
    assert set(printed_case["results"]["output"]["tolerance"]) == set(case["results"]["output"]["tolerance"])


def test_the_printed_request_is_answered() -> None:
    request = json.loads(block("json", 0))
    assert computed("conv", **{**request, "count": 3}).cases


def test_the_formats_are_named() -> None:
    assert all(f"`{media_type}`" in PAGE.text for media_type in BY_TYPE)
    assert written(computed("conv", count=1), "application/x-ndjson")


def test_links_lead_somewhere() -> None:
    assert list(PAGE.broken_links()) == []
