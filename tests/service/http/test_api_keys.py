"""API keys: the file, what is refused without one, and what needs none."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.app import create_app
from service.http.api_keys import ApiKeys, ApiKeysError
from service.settings import Settings
from tests.clients import ApplicationClient, application_client
from tests.logs import logged

KEY, OTHER_KEY = "first-key-0123456789", "another/key+0123456789=="
BODY = {"mode": "max", "kernel_size": 2, "input": [[[[1], [2]], [[3], [4]]]]}
ANSWER = {"output": [[[[4]]]]}


def digest_line(key: str) -> str:
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


# ------------------------------------------------------------------------------------------------------------ the file


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class KeyFile:
    """A file of keys, and what was read of it."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.clock = path, Clock()
        path.write_text(text)
        self.keys = ApiKeys(str(path), self.clock)

    def valid(self, *keys: str) -> list[bool]:
        """Which keys are valid a while later."""
        self.clock.now += 1.5
        return [self.keys.include(key.encode()) for key in keys]


@pytest.mark.parametrize(
    "text",
    [
        f"{KEY}\n{OTHER_KEY}\n",
        f"{KEY}\n{OTHER_KEY}",
        f"# ours\r\n{KEY}\r\n\r\n  {OTHER_KEY}\t\r\n",
        f"\ufeff{KEY}\n#{KEY}x\n{OTHER_KEY}\n",
        f"{digest_line(KEY)}\n{OTHER_KEY}\n",
        f"{digest_line(KEY)}\n{digest_line(OTHER_KEY).replace('sha256:', 'SHA256:').lower()}\n",
        f"{KEY}\n{KEY}\n{OTHER_KEY}\n",
    ],
)
def test_the_keys_of_a_file_are_valid_and_no_others(tmp_path: Path, text: str) -> None:
    file = KeyFile(tmp_path / "keys", text)
    assert len(file.keys) == 2
    assert file.valid(KEY, OTHER_KEY) == [True, True]
    others = ["", KEY[:-1], f"{KEY}x", KEY.upper(), "# ours", f"#{KEY}x", digest_line(KEY), f"{KEY}\n", f" {KEY}"]
    assert not any(file.valid(*others))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no key"),
        (b"# none yet\n\n", "holds no key"),
        (b"name: 0123456789abcdef\n", "keys, line 1: an API key is visible ASCII"),
        (b"0123456789abcdef\n0123456789abcdef # mine\n", "keys, line 2: an API key is visible ASCII"),
        ("schlüssel-0123456789\n".encode(), "keys, line 1: an API key is visible ASCII"),
        ("0123456789abcdef\n".encode("utf-16"), "keys, line 1: an API key is visible ASCII"),
        (b"sha256:0123\n", "keys, line 1: sha256: is followed by the 64"),
        (b"sha256:" + b"g" * 64 + b"\n", "keys, line 1: sha256: is followed by the 64"),
        (b"#" * (2**18 + 1), "larger than 262144 bytes"),
        (None, "No such file or directory"),
        (Path.mkdir, "not a regular file"),
        (os.mkfifo, "not a regular file"),
    ],
    ids=lambda value: "" if callable(value) or value is None else repr(value[:20]),
)
def test_an_unusable_file_is_an_error_that_shows_no_key(
    tmp_path: Path, content: bytes | Callable[[Path], None] | None, said: str
) -> None:
    path = tmp_path / "keys"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        content(path)
    with pytest.raises(ApiKeysError) as raised:
        ApiKeys(str(path))
    assert said in str(raised.value)
    assert str(path) in str(raised.value)
    assert "0123456789" not in str(raised.value).replace(str(path), "")


def test_a_short_key_is_warned_of_by_its_line(tmp_path: Path) -> None:
    with logged("convpool") as records:
        KeyFile(tmp_path / "keys", f"{KEY}\nhunter2\n")
    (record,) = records
    assert record.levelno == logging.WARNING
    assert "line 2" in record.getMessage()
    assert "hunter2" not in record.getMessage()


def rewritten(path: Path, text: str) -> None:
    path.write_text(text)


def replaced(path: Path, text: str) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.replace(path)


@pytest.mark.parametrize("change", [rewritten, replaced])
def test_a_changed_file_is_read_again(tmp_path: Path, change: Callable[[Path, str], None]) -> None:
    file = KeyFile(tmp_path / "keys", KEY)
    change(file.path, f"{KEY}\n{OTHER_KEY}\n")
    assert file.valid(KEY, OTHER_KEY) == [True, True]
    change(file.path, OTHER_KEY)
    assert file.valid(KEY, OTHER_KEY) == [False, True]


def test_the_change_of_a_link_on_the_way_is_seen(tmp_path: Path) -> None:
    """As Kubernetes mounts a secret: the file is a link to ..data/keys, and ..data one to the present version."""
    for version, key in (("v1", KEY), ("v2", OTHER_KEY)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "keys").write_text(f"{key:-<30}")
    data, path = tmp_path / "..data", tmp_path / "keys"
    data.symlink_to("v1")
    path.symlink_to("..data/keys")
    clock = Clock()
    keys = ApiKeys(str(path), clock)
    (tmp_path / "..new").symlink_to("v2")
    (tmp_path / "..new").replace(data)
    clock.now += 2
    assert not keys.include(f"{KEY:-<30}".encode())
    assert keys.include(f"{OTHER_KEY:-<30}".encode())


def test_an_unreadable_file_leaves_the_keys_valid_and_is_logged_once(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys", KEY)
    with logged("convpool") as records:
        file.path.unlink()
        for _ in range(5):
            assert file.valid(KEY, OTHER_KEY) == [True, False]
        rewritten(file.path, "")  # a file that is just being written
        assert file.valid(KEY, OTHER_KEY) == [True, False]
        rewritten(file.path, f"{OTHER_KEY}\nan error here\n")
        assert file.valid(KEY, OTHER_KEY) == [True, False]
        rewritten(file.path, OTHER_KEY)
        assert file.valid(KEY, OTHER_KEY) == [False, True]
    messages = [record.getMessage() for record in records]
    assert [record.levelno for record in records] == [logging.ERROR] * 3 + [logging.INFO]
    for message, part in zip(messages, ("No such file", "holds no key", "line 2", "read again: 1"), strict=True):
        assert part in message
        assert KEY not in message
        assert OTHER_KEY not in message


def test_the_file_is_looked_at_once_a_second_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = KeyFile(tmp_path / "keys", KEY)
    looks = 0
    stat = Path.stat

    def counted(path: Path, **options: Any) -> os.stat_result:
        nonlocal looks
        looks += path == file.path
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", counted)
    for _ in range(1000):
        assert file.keys.include(KEY.encode())
        file.clock.now += 1 / 128  # a number that adds up exactly
    assert looks == 1000 // 128


# --------------------------------------------------------------------------------------------------------- requests


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("access") / "keys"
    path.write_text(f"# two\n{KEY}\n{digest_line(OTHER_KEY)}\n")
    return path


@pytest.fixture(scope="module")
def guarded(key_file: Path) -> Iterator[ApplicationClient]:
    with application_client(create_app(Settings(api_keys_file=str(key_file)))) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize("authorization", [f"Bearer {KEY}", f"bearer {KEY}", f"BEARER  {OTHER_KEY}"])
def test_a_request_with_a_key_is_answered(guarded: ApplicationClient, authorization: str) -> None:
    response = guarded.post("/pool/forward", json=BODY, headers={"Authorization": authorization})
    assert (response.status_code, response.json()) == (200, ANSWER)


@pytest.mark.parametrize(
    ("headers", "got"),
    [
        ([], "no Authorization header"),
        ([("Authorization", "")], "another form of Authorization header"),
        ([("Authorization", KEY)], "another form of Authorization header"),
        ([("Authorization", f"Basic {KEY}")], "another form of Authorization header"),
        ([("Authorization", f"Bearer:{KEY}")], "another form of Authorization header"),
        ([("Authorization", f"Bearer\t{KEY}")], "another form of Authorization header"),
        ([("Authorization", "Bearer")], "a key that is not valid"),
        ([("Authorization", f"Bearer {KEY}x")], "a key that is not valid"),
        ([("Authorization", f"Bearer {KEY}, Bearer {KEY}")], "a key that is not valid"),
        ([("Authorization", f"Bearer {digest_line(OTHER_KEY)}")], "a key that is not valid"),
        ([("Authorization", b"Bearer \xff\xfe")], "a key that is not valid"),
        ([("Authorization", f"Bearer {KEY}"), ("Authorization", f"Bearer {KEY}")], "several Authorization headers"),
        ([("X-API-Key", KEY), ("Cookie", f"key={KEY}"), ("Proxy-Authorization", f"Bearer {KEY}")], "no Authorization"),
    ],
)
def test_a_request_without_a_valid_key_is_refused(
    guarded: ApplicationClient, headers: list[tuple[str, Any]], got: str
) -> None:
    with logged("convpool") as records:
        response = guarded.post(f"/pool/forward?access_token={KEY}", json=BODY, headers=headers)
        inference = guarded.post("/v2/models/pool_forward/infer", json={}, headers=headers)
    assert response.status_code == inference.status_code == 401
    assert response.headers["www-authenticate"] == inference.headers["www-authenticate"] == "Bearer"
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["title"], problem["type"]) == ("Unauthorized", "urn:convpool:problem:unauthorized")
    assert got in problem["errors"][0]["got"]
    assert inference.headers["content-type"] == "application/json"
    assert set(inference.json()) == {"error"}
    assert got in inference.json()["error"]
    texts = [response.text, inference.text, *(record.getMessage() for record in records)]
    assert len(texts) == 4
    assert all(KEY not in text and OTHER_KEY not in text for text in texts)
