"""A server on a Unix domain socket: its file, its clients, its end."""

from __future__ import annotations

import contextlib
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service import healthcheck
from service.unix_socket import unix_socket
from tests.waiting import wait_until

SECONDS = 60
README_PATH = "/tmp/convpool.sock"
README_COMMAND = next(
    line for line in (Path(__file__).parents[2] / "README.md").read_text().splitlines() if "--unix-socket" in line
)
REQUEST = {"mode": "max", "kernel_size": 2, "input": [[[[1], [2]], [[3], [4]]]]}

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="the system has no Unix domain sockets")


def is_listened_on(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            return False
        return True


def run_in_bash(command: str) -> str:
    return subprocess.run(["bash", "-euc", command], check=True, capture_output=True, text=True, timeout=SECONDS).stdout


# ------------------------------------------------------------------------------------------------------------ the file


def test_everyone_may_connect_and_the_file_is_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with unix_socket(str(path)):
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        assert is_listened_on(path)  # before anything accepts
    assert not path.exists()


def test_the_file_of_a_dead_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with unix_socket(str(path)):
        assert is_listened_on(path)


def test_a_living_server_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with unix_socket(str(path)):
        with pytest.raises(OSError, match="a server listens there already"), unix_socket(str(path)):
            pass
        assert is_listened_on(path)


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "socket"
    match kind:
        case "file":
            path.touch()
        case "folder":
            path.mkdir()
        case _:
            path.symlink_to("elsewhere")
    with pytest.raises(OSError, match="not a socket"), unix_socket(str(path)):
        pass
    assert path.lstat()


def test_a_path_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path / "missing" / "socket", tmp_path / ("x" * 200)):
        with pytest.raises(OSError, match=r"No such file|too long"), unix_socket(str(path)):
            pass


def test_the_file_of_a_successor_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with unix_socket(str(path)):
        path.rename(tmp_path / "moved")
        path.touch()
    assert path.exists()

    with unix_socket(str(path.with_name("gone"))):
        path.with_name("gone").unlink()  # which is no error


# ---------------------------------------------------------------------------------------------------------- the server


@contextlib.contextmanager
def server_at(path: Path, *arguments: str) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "serve", "--uds", str(path), *arguments], stderr=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: process.poll() is not None or (path.is_socket() and is_listened_on(path)))
        assert process.poll() is None
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=transport, base_url="http://localhost", timeout=SECONDS) as client:
            yield client, process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=SECONDS)


@pytest.mark.skipif(not (shutil.which("bash") and shutil.which("curl")), reason="bash or curl is not installed")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_from_start_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    path = tmp_path / "socket"
    monkeypatch.setenv("CONVPOOL_UDS", str(path))
    assert healthcheck.main() == 1
    with server_at(path, "--workers", str(workers)) as (client, process):
        response = client.post("/pool/forward", json=REQUEST)  # waits until the server has started
        assert response.json() == {"output": [[[[4.0]]]]}
        assert client.get("/nothing").status_code == 404
        assert healthcheck.main() == 0
        assert run_in_bash(README_COMMAND.replace(README_PATH, str(path))) == '{"status":"ready"}\n'
        process.terminate()
        _, log = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, log
    assert not path.exists()
    assert f"Listening on the Unix domain socket {path}" in log
    assert '"POST /pool/forward" 200' in log
    assert '"GET /nothing" 404' in log
    assert "Traceback" not in log
