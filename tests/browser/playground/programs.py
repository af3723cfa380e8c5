"""The code that the page offers for copying, run as it is, and what it prints."""

from __future__ import annotations

import ast
import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

RUN_PYTHON = """
import contextlib, io, json, ssl, sys
ssl.SSLContext.load_verify_locations = lambda *files, **more: None  # 20 ms each time, and nothing is TLS
def run(code):
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        exec(compile(code, "snippet.py", "exec"), {"__name__": "__main__"})
    return text.getvalue()
json.dump([run(code) for code in json.load(sys.stdin)], sys.stdout)
"""
RUN_NODE = """
import { readFileSync } from "node:fs";
const printed = [];
const log = console.log;
for (const [index, code] of JSON.parse(readFileSync(0, "utf-8")).entries()) {
  console.log = (text) => printed.push(text);
  await import(`data:text/javascript,${encodeURIComponent(code)}#${index}`); // equal code, too, is a module of its own
}
log(JSON.stringify(printed));
"""


def in_python(codes: Sequence[str]) -> list[str]:
    return in_one([sys.executable, "-c", RUN_PYTHON], codes)


def in_node(codes: Sequence[str]) -> list[str]:
    return in_one(["node", "--input-type=module", "--eval", RUN_NODE], codes)


def in_one(command: list[str], codes: Sequence[str]) -> list[str]:
    """Run all in one process, which saves the time in which an interpreter starts."""
    ended = subprocess.run(command, input=json.dumps(codes), capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
    printed: list[str] = json.loads(ended.stdout)
    return printed


def in_bash(codes: Sequence[str], folder: Path) -> list[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # python3 has NumPy
    environment = {**os.environ, "TMPDIR": str(folder), "PATH": path}

    def run(code: str) -> str:
        command = ["bash", "-euc", code]
        ended = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert ended.returncode == 0, f"{code}{ended.stdout}{ended.stderr}"
        return ended.stdout

    return [run(code) for code in codes]


def run_all(identifier: str, codes: Sequence[str], folder: Path) -> list[str]:
    """What each piece of code of one kind prints, which gets the environment of the tests."""
    if identifier.startswith("curl"):
        return in_bash(codes, folder)
    return (in_python if identifier == "python" else in_node)(codes)


def arrays_of(answer: dict[str, Any]) -> dict[str, np.ndarray]:
    """The tensors of an answer, in any of the forms of JSON."""
    arrays = {}
    for name, tensor in answer.items():
        if isinstance(tensor, list):
            arrays[name] = np.array(tensor, np.float64)
        elif "base64" in tensor:
            flat = np.frombuffer(base64.b64decode(tensor["base64"]), np.dtype(tensor["dtype"]).newbyteorder("<"))
            arrays[name] = flat.reshape(tensor["shape"]).astype(np.float64)
        else:
            arrays[name] = np.array(tensor["data"], np.float64).reshape(tensor["shape"])
    return arrays


NUMBERS = {"nan": np.nan, "inf": np.inf}


def literal(text: str) -> Any:
    """What Python prints, with the names nan and inf."""
    return eval(compile(ast.parse(text, mode="eval"), "printed", "eval"), {"__builtins__": {}, **NUMBERS})


def python_answer(text: str) -> dict[str, np.ndarray]:
    if text.startswith("{"):
        return arrays_of(ast.literal_eval(text))
    return {name: np.array(literal(rest)) for name, rest in (line.split(" ", 1) for line in text.splitlines())}


def files_answer(text: str) -> dict[str, np.ndarray]:
    return arrays_of(json.loads(text)) if text.startswith('{"') else arrays_of(literal(text))


ANSWERS: dict[str, Callable[[str], dict[str, np.ndarray]]] = {
    "curl-json": lambda text: arrays_of(json.loads(text)),
    "curl-multipart": files_answer,
    "python": python_answer,
    "fetch": lambda text: arrays_of(json.loads(text)),
}
