"""The command line: flags, environment variables, and what is said about bad ones."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from uvicorn.config import STARTUP_FAILURE

import cnn_core
from service import cli
from service.cli import main
from service.settings import Settings

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
    monkeypatch.setattr(cli, "_run", lambda config, sockets: options.update(vars(config), sockets=sockets))
    return options


def test_flags(served: dict[str, Any]) -> None:
    flags = ["--host", "::1", "--port", "1234", "--workers", "3", "--log-level", "debug"]
    assert main(["serve", *flags]) == 0
    expected = {"host": "::1", "port": 1234, "workers": 3}
    assert expected.items() <= served.items()
    assert served["forwarded_allow_ips"] == "127.0.0.1,::1"
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
        (["serve", "--log-level", "loud"], {}, "--log-level: "),
        (["serve", "--max-body-bytes", "0"], {"CONVPOOL_MAX_BODY_BYTES": "7"}, "--max-body-bytes: "),
        (["serve", "--prot", "1"], {}, "--prot"),
        (["serve", "--max-body", "1"], {}, "--max-body"),  # a beginning may mean another flag in another version
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


def test_the_help_names_every_setting_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, field in Settings.model_fields.items():
        default = "the number of available CPUs" if field.default_factory else field.default
        if default == "":
            default = "none"
        variable = f"CONVPOOL_{name.upper()}"
        assert f"{field.description} (default: {default}) [env: {variable}]" in text
        assert re.search(rf"--{name.replace('_', '-')} \S", text)


def other_value(name: str, default: Any) -> str:
    """A value of a setting that is not its default."""
    words = {
        "host": "::1",
        "log_level": "error",
        "log_format": "json",
        "cors_origins": "https://example.org",
        "forwarded_allow_ips": "10.0.0.0/8",
        "root_path": "/below",
        "max_share_per_address": "0.5",
    }
    return words.get(name) or str((default or 0) + 1)


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if name not in ("uds", "api_keys_file")])
def test_every_setting_is_a_flag_that_reaches_the_workers(served: dict[str, Any], name: str) -> None:
    variable, default = f"CONVPOOL_{name.upper()}", Settings.model_fields[name].default
    value = other_value(name, None if Settings.model_fields[name].default_factory else default)
    os.environ[variable] = "1"
    assert main(["serve", f"--{name.replace('_', '-')}", value]) == 0
    assert os.environ[variable] == value
    assert str(getattr(Settings(), name)) == value  # as a worker reads it
    assert served


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("CONVPOOL_MAX_BODY", "CONVPOOL_MAX_BODY_BYTES"),
        ("CONVPOOL_THREADS", "CONVPOOL_COMPUTE_THREADS"),
        ("convpool_loglevel", "CONVPOOL_LOG_LEVEL"),
        ("CONVPOOL_COLOR", None),
        ("CONVPOOL_", None),
    ],
)
def test_a_misspelt_variable_is_reported(
    served: dict[str, Any], capsys: pytest.CaptureFixture[str], variable: str, meant: str | None
) -> None:
    os.environ |= {variable: "7", "CONVPOOL_KEEP_ALIVE": "7", "convpool_workers": "2", "CONVPOOLPORT": "7"}
    assert main(["serve"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    end = f"{variable} (did you mean {meant}?)" if meant else variable
    assert line.endswith(f" WARNING Ignored environment variables that are no settings: {end}")
    assert served["workers"] == 2


@pytest.mark.usefixtures("served")
def test_nothing_is_reported_where_nothing_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    os.environ["CONVPOOL_PORT"] = "1234"
    assert main(["serve"]) == 0
    assert capsys.readouterr().err == ""


def test_a_socket_that_cannot_be_listened_on_is_an_error_in_words(
    served: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "socket"
    file.write_text("mine")
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--uds", str(file)])
    assert ended.value.code == STARTUP_FAILURE
    assert not served
    assert file.read_text() == "mine"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f" ERROR Cannot listen on the Unix domain socket {file}: there is a file that is not a socket")
