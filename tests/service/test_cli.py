"""The command line: flags, environment variables, and what is said about bad ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import cnn_core
from service import cli
from service.cli import main

SECONDS = 30


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without settings; changes to it, which the command makes too, end with the test."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("CONVPOOL_")}
    monkeypatch.setattr(os, "environ", own)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command hands to uvicorn instead of serving."""
    options: dict[str, Any] = {}
    monkeypatch.setattr(cli, "_run", lambda config: options.update(vars(config)))
    return options


def test_flags(served: dict[str, Any]) -> None:
    flags = ["--host", "::1", "--port", "1234", "--workers", "3", "--log-level", "debug"]
    assert main(["serve", *flags]) == 0
    expected = {"host": "::1", "port": 1234, "workers": 3}
    assert expected.items() <= served.items()
    assert served["log_config"]["loggers"]["convpool"]["level"] == "DEBUG"
    assert served["http"] == "service.http.protocol:Protocol"  # see docs/decisions/0004-httptools.md
    assert os.environ["CONVPOOL_PORT"] == "1234"  # where the workers read it


def test_environment_variables_and_flags_over_them(served: dict[str, Any]) -> None:
    os.environ |= {"CONVPOOL_PORT": "1234", "CONVPOOL_HOST": "::2", "CONVPOOL_KEEP_ALIVE": "7"}
    assert main(["serve", "--port", "4321"]) == 0
    assert {"host": "::2", "port": 4321, "workers": 1, "timeout_keep_alive": 7}.items() <= served.items()


@pytest.mark.parametrize(
    ("arguments", "variables", "named"),
    [
        (["serve", "--port", "seven"], {}, "port"),
        (["serve", "--port", "70000"], {}, "port"),
        (["serve", "--workers", "0"], {}, "workers"),
        (["serve", "--log-level", "loud"], {}, "log_level"),
        (["serve", "--prot", "1"], {}, "--prot"),
        (["serve"], {"CONVPOOL_PORT": "seven"}, "CONVPOOL_PORT"),
        (["serve"], {"CONVPOOL_MAX_BODY_BYTES": "-1"}, "CONVPOOL_MAX_BODY_BYTES"),
        (["serve"], {"CONVPOOL_BODY_TIMEOUT": "soon"}, "CONVPOOL_BODY_TIMEOUT"),
        (["serve"], {"CONVPOOL_COMPUTE_THREADS": "0", "CONVPOOL_WORKERS": "x"}, "CONVPOOL_COMPUTE_THREADS"),
        (["surf"], {}, "surf"),
        ([], {}, "command"),
    ],
)
def test_a_bad_value_is_named_in_one_line(
    served: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    variables: dict[str, str],
    named: str,
) -> None:
    os.environ |= variables
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert not served
    *usage, message = capsys.readouterr().err.splitlines()
    assert "error: " in message
    assert named.lower() in message.lower()
    assert not any("error" in line for line in usage)


def run_command(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, check=False, timeout=SECONDS
    )


def test_a_bad_value_ends_the_process_with_status_2() -> None:
    ended = run_command(sys.executable, "-m", "service", "serve", CONVPOOL_WORKERS="none")
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.splitlines()[-1].startswith("convpool: error: CONVPOOL_WORKERS: ")
    assert "Traceback" not in ended.stderr


def test_the_version() -> None:
    ended = run_command(str(Path(sys.executable).with_name("convpool")), "--version")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"convpool {cnn_core.__version__}\n"


def test_the_help_names_every_flag_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for flag, default in [("host", "127.0.0.1"), ("port", "8000"), ("workers", "1"), ("log-level", "info")]:
        assert f"--{flag}" in text
        assert f"Default: {default}." in " ".join(text.split())
