"""The command line: flags, environment variables, and what is said about bad ones."""

from __future__ import annotations

import logging
import os
import re
import socket
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
from tests.clients import free_port

SECONDS = 120


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without settings; changes to it, which the command makes too, end with the test."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("CONVPOOL_")}
    monkeypatch.setattr(os, "environ", own)


class Ended(Exception):
    """The process would have ended."""


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that the command would have served with."""
    collected: list[Settings] = []
    monkeypatch.setattr(cli, "serve", collected.append)
    return collected


def serve(*arguments: str) -> Settings:
    """The settings that arguments and variables make, after what is said about them."""
    collected: list[Settings] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cli, "_run", collected.append)
        main(["serve", *arguments])
    return collected[0]


def test_flags() -> None:
    settings = serve("--host", "::1", "--port", "1234", "--workers", "3", "--log-level", "debug")
    assert (settings.host, settings.port, settings.workers) == ("::1", 1234, 3)
    assert os.environ["CONVPOOL_PORT"] == "1234"  # where the workers read it
    assert logging.getLogger("convpool").level == logging.DEBUG


def test_environment_variables_and_flags_over_them() -> None:
    os.environ |= {"CONVPOOL_PORT": "1234", "CONVPOOL_HOST": "::2", "CONVPOOL_KEEP_ALIVE": "7"}
    settings = serve("--port", "4321")
    assert (settings.host, settings.port, settings.workers, settings.keep_alive) == ("::2", 4321, 1, 7)


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
    served: list[Settings],
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
    return words.get(name) or ("other" if isinstance(default, str) else str(1 if default is None else default + 1))


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_a_flag_that_reaches_the_workers(name: str) -> None:
    variable, default = f"CONVPOOL_{name.upper()}", Settings.model_fields[name].default
    value = other_value(name, None if Settings.model_fields[name].default_factory else default)
    os.environ[variable] = "1"
    assert str(getattr(serve(f"--{name.replace('_', '-')}", value), name)) == value
    assert os.environ[variable] == value
    assert str(getattr(Settings(), name)) == value  # as a worker reads it


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
def test_a_misspelt_variable_is_reported(capsys: pytest.CaptureFixture[str], variable: str, meant: str | None) -> None:
    os.environ |= {variable: "7", "CONVPOOL_KEEP_ALIVE": "7", "convpool_workers": "2", "CONVPOOLPORT": "7"}
    assert serve().workers == 2
    (line,) = capsys.readouterr().err.splitlines()
    end = f"{variable} (did you mean {meant}?)" if meant else variable
    assert line.endswith(f" WARNING Ignored environment variables that are no settings: {end}")


def test_nothing_is_reported_where_nothing_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    os.environ |= {"CONVPOOL_PORT": "1234", "CONVPOOL_URL": "http://other:1", "CONVPOOL_API_KEY": "of the client"}
    assert serve().port == 1234
    assert capsys.readouterr().err == ""


def test_what_kubernetes_sets_for_a_service_of_this_name_is_no_setting(capsys: pytest.CaptureFixture[str]) -> None:
    links = {
        "CONVPOOL_SERVICE_HOST": "10.0.0.1",
        "CONVPOOL_SERVICE_PORT": "8000",
        "CONVPOOL_SERVICE_PORT_HTTP": "8000",
        "CONVPOOL_PORT": "tcp://10.0.0.1:8000",
        "CONVPOOL_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "CONVPOOL_PORT_8000_TCP_PROTO": "tcp",
        "CONVPOOL_PORT_8000_TCP_PORT": "8000",
        "CONVPOOL_PORT_8000_TCP_ADDR": "10.0.0.1",
    }
    os.environ |= links
    assert serve().port == 8000
    (line,) = capsys.readouterr().err.splitlines()
    assert all(name in line for name in links)
    assert "enableServiceLinks: false" in line


def ended_start(*arguments: str) -> tuple[int, list[str]]:
    """The status of a start that must end, and the lines that it logs."""
    ended = run_command(sys.executable, "-m", "service", "serve", *arguments)
    assert ended.stdout == ""
    return ended.returncode, ended.stderr.splitlines()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_cannot_be_listened_on_is_an_error_in_words(tmp_path: Path, workers: str) -> None:
    file = tmp_path / "socket"
    file.write_text("mine")
    status, (line,) = ended_start("--uds", str(file), "--workers", workers)
    assert status == STARTUP_FAILURE
    assert line.endswith(f" ERROR Cannot listen on the Unix domain socket {file}: there is a file that is not a socket")
    assert file.read_text() == "mine"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, (line,) = ended_start("--port", port, "--workers", workers)
    assert status == STARTUP_FAILURE
    assert line.endswith(f" ERROR Cannot listen on 127.0.0.1, port {port}: Address already in use")
    status, (line,) = ended_start("--host", "nowhere.invalid", "--workers", workers)
    assert status == STARTUP_FAILURE
    assert " ERROR Cannot listen on nowhere.invalid, port 8000: " in line


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_certificate_that_cannot_be_used_is_an_error_in_words(tmp_path: Path, workers: str) -> None:
    missing, wrong = str(tmp_path / "missing.pem"), tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    for arguments, words in (
        (["--tls-certificate", missing], f"Cannot read {missing} for TLS: No such file or directory"),
        (
            ["--tls-certificate", str(wrong)],
            "TLS needs a certificate and its key in PEM, without a password; " + str(wrong),
        ),
        (["--tls-key", str(wrong)], "tls_key is set, but not tls_certificate"),
    ):
        status, (line,) = ended_start("--port", str(free_port()), "--workers", workers, *arguments)
        assert status == STARTUP_FAILURE
        assert f" ERROR {words}" in line
