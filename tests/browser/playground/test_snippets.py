"""The code that the page offers for copying runs as it is, and prints cnn_core's numbers.

``draw`` of tests/snippets.py draws the layers again.
"""

from __future__ import annotations

import ast
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.browser.playground.programs import ANSWERS, in_python, literal, run_all
from tests.declarations import BY_NAME, DECLARATIONS
from tests.declarations.declaration import Case
from tests.snippets import Layer, code_for, draw, integers

SEED = 16
CLOSE = 1e-12


def mixed(case: Case) -> Case:
    """Every other case of normal numbers of float32, the others as they are drawn: some have NaN and infinities."""
    operands = case.operands
    if case.operands["input"].size % 2 and all(array.dtype.kind == "f" for array in operands.values()):
        operands = {name: array.astype(np.float32) for name, array in operands.items()}
    return Case(case.parameters, operands, case.grad_output)


@pytest.fixture(scope="module")
def layers() -> list[Layer]:
    drawn = [
        layer
        for declaration in DECLARATIONS
        for layer in draw(declaration, 1, SEED, integers) + draw(declaration, 2, SEED + 1, mixed, examples=False)
    ]
    assert len(drawn) >= 60
    assert not all(np.isfinite(array).all() for layer in drawn for array in layer.case.operands.values())
    assert {layer.declaration.name for layer in drawn} == set(BY_NAME)
    assert {layer.view for layer in drawn} == {"forward", "grad_input", "grad_weight", "grad_bias"}
    return drawn


@pytest.fixture(scope="module")
def codes(layers: list[Layer], server_url: str) -> list[dict[str, str]]:
    return code_for(layers, server_url)


def agree(layer: Layer, answer: dict[str, np.ndarray]) -> None:
    assert set(answer) == set(layer.expected), layer
    for name, expected in layer.expected.items():
        assert answer[name].shape == expected.shape, layer
        scale = CLOSE if expected.dtype != np.float32 else 1e-6
        np.testing.assert_allclose(answer[name], expected.astype(np.float64), scale, scale, err_msg=str(layer))


@pytest.mark.parametrize("identifier", list(ANSWERS))
def test_the_code_prints_the_numbers(
    identifier: str, layers: list[Layer], codes: list[dict[str, str]], tmp_path: Path
) -> None:
    printed = run_all(identifier, [code[identifier] for code in codes], tmp_path)
    for layer, text in zip(layers, printed, strict=True):
        agree(layer, ANSWERS[identifier](text))


def test_the_code_for_the_library_prints_the_numbers(layers: list[Layer], codes: list[dict[str, str]]) -> None:
    for layer, text in zip(layers, in_python([code["cnn_core"] for code in codes]), strict=True):
        values = map(literal, text.splitlines())
        agree(layer, {name: np.array(value) for name, value in zip(layer.expected, values, strict=True)})


def test_there_is_code_for_every_framework(codes: list[dict[str, str]]) -> None:
    for code in codes:
        assert list(code)[:4] == list(ANSWERS)
        assert "Authorization" not in "".join(code.values())  # this server asks for no key
        assert set(code) >= {"torch", "tensorflow", "jax", "onnx"}
        for framework in ("torch", "tensorflow", "jax", "onnx"):
            compile(code[framework], "snippet.py", "exec")


# What a link that somebody else made may hold


class Recorder(ThreadingHTTPServer):
    """Keeps path, type and body of every request."""

    daemon_threads = True

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, bytes]] = []
        super().__init__(("127.0.0.1", 0), Recording)


class Recording(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Recorder

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, self.headers["Content-Type"], body))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


HOSTILE = [
    "'; touch mark; '",
    '"; touch mark; "',
    "$(touch mark)",
    "`touch mark`",
    "${IFS}touch${IFS}mark",
    "\nJSON\ntouch mark\n",
    "\nNPY\ntouch mark\n",
    "\r\ntouch mark\r\n",
    "\\",
    "\\'; touch mark #",
    "'\\''; touch mark; '",
    '"); open("mark", "w"); ("',
    "'); open('mark', 'w'); ('",
    '"""); open("mark", "w") #',
    '\\"); open("mark", "w") #',
    '"}); await import("node:fs").then((fs) => fs.writeFileSync("mark", "")); ({"a": "',
    "${(await import('node:fs')).writeFileSync('mark', '')}",
    "\u2028touch mark\u2029",
    "\x1b[201~\ntouch mark\n",
    "\x9b201~\x00\x7f",
    "\u202etouch mark",
    "!!",
    "!touch",
    "@/etc/hostname",
    "</etc/hostname",
    "a;type=text/plain",
    "a=b&c=d",
    "true",
    "1e3",
    "[1]",
    "\U0001f600 %41 +",
    "é",
]
PARAMETERS = ["padding_mode", "padding"]


def recorded(request: tuple[str, str, bytes]) -> dict[str, Any]:
    """The parameters of a request, as the service reads them."""
    _, media_type, body = request
    if media_type == "application/json":
        return {name: value for name, value in json.loads(body).items() if name in PARAMETERS}
    message = BytesParser().parsebytes(f"Content-Type: {media_type}\r\n\r\n".encode() + body)
    fields = {}
    for part in message.get_payload():
        name = part.get_param("name", header="content-disposition")
        if part.get_param("filename", header="content-disposition") is None:
            text = part.get_payload(decode=True).decode()
            try:
                fields[name] = json.loads(text)
            except ValueError:
                fields[name] = text
    return {name: value for name, value in fields.items() if name in PARAMETERS}


@pytest.fixture(scope="module")
def simple(layers: list[Layer]) -> Layer:
    return next(layer for layer in layers if layer.declaration.name == "conv" and layer.view == "forward")


def test_no_value_of_a_parameter_gets_out_of_its_literal(
    simple: Layer, server_url: str, recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = f"http://127.0.0.1:{recorder.server_port}"
    given = [{"padding_mode": text, "padding": [text, 1]} for text in HOSTILE]
    made = code_for([simple] * len(given), server_url, [base] * len(given), given)
    for code in made:
        assert all(re.fullmatch(r"[\n\x20-\x7e]*", text) for text in code.values())
        assert "!" not in code["curl-json"] + code["curl-multipart"]
        compile(code["cnn_core"], "snippet.py", "exec")
    for identifier in ANSWERS:
        recorder.requests.clear()
        run_all(identifier, [code[identifier] for code in made], tmp_path)
        assert [recorded(request) for request in recorder.requests] == given
        assert not (tmp_path / "mark").exists()
    for code, parameters in zip(made, given, strict=True):
        (call,) = (node.value for node in ast.walk(ast.parse(code["cnn_core"])) if is_assigned(node, "op"))
        assert {one.arg: ast.literal_eval(one.value) for one in call.keywords} == parameters


def is_assigned(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name


PREFIXES = ["", "/it's", "/$(touch mark)", "/`touch mark`", '/"+x+"', "/a\ntouch mark\n", "/{a,b}[1-3]", "/\\", "/é"]


def test_no_base_url_gets_out_of_its_literal(
    simple: Layer, server_url: str, recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bases = [f"http://127.0.0.1:{recorder.server_port}{prefix}" for prefix in PREFIXES]
    made = code_for([simple] * len(PREFIXES), server_url, bases)
    for identifier in ANSWERS:
        recorder.requests.clear()
        run_all(identifier, [code[identifier] for code in made], tmp_path)
        paths = [urllib.parse.unquote(path) for path, _, _ in recorder.requests]
        assert paths == [f"{prefix}/conv/forward" for prefix in PREFIXES]
    assert not (tmp_path / "mark").exists()
