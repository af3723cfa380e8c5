"""Clients that others' generators make from /openapi.json: generated, compiled or type-checked, and run.

Every caller makes the same four calls: a convolution of a tensor in the flat form, the gradient of a pooling in nested
lists, a shape call whose count is beyond 32 bits, and one with a stride of 0.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import openapi_generator_cli
import pytest

from tests.clients import running_server

CALLERS = Path(__file__).parent / "callers"
ANSWERS = {
    "output": [16777217.5],  # float32 has neither this nor 16777217
    "grad_input": [[[[0], [0]], [[3], [0]]]],
    "multiply_accumulates": 512 * 56 * 56 * 64 * 64 * 3 * 3,
    "problem": [422, "/stride"],
}


def ran(*command: str | Path, folder: Path, **environment: str) -> str:
    """What a command prints; fails the test with what it printed if it fails."""
    completed = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


def installed(command: str) -> str:
    path = shutil.which(command)
    if path is None:
        pytest.skip(f"{command} is not installed")
    return path


def python_client(document: Path, caller: str, folder: Path) -> Path:
    """A caller of the client that openapi-python-client makes, type-checked, next to that client."""
    generate = (Path(sys.prefix) / "bin" / "openapi-python-client", "generate", "--meta", "none")
    # its own formatter is ruff, found on the PATH
    path = f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}"
    ran(*generate, "--path", document, "--output-path", folder / "convpool_client", folder=folder, PATH=path)
    copied = Path(shutil.copy(CALLERS / caller, folder))
    # strict with the caller, as with a user's code; some casts in the client itself are redundant
    mypy = (sys.executable, "-m", "mypy", "--config-file=", "--strict", "--follow-imports=silent")
    ran(*mypy, copied, folder=folder)
    return copied


def test_openapi_python_client(document: Path, server_url: str, tmp_path: Path) -> None:
    caller = python_client(document, "python_client.py", tmp_path)
    assert json.loads(ran(sys.executable, caller, server_url, folder=tmp_path)) == ANSWERS


def test_a_client_sends_the_key_that_a_server_requires(tmp_path: Path) -> None:
    key, keys, document = "a-key-of-the-tests-0123456789", tmp_path / "keys", tmp_path / "openapi.json"
    keys.write_text(key)
    with running_server("--api-keys-file", str(keys)) as (base_url, _):
        document.write_bytes(httpx.get(f"{base_url}/openapi.json").content)
        caller = python_client(document, "python_client_with_key.py", tmp_path)
        assert json.loads(ran(sys.executable, caller, base_url, key, folder=tmp_path)) == [[[[[4]]]], 401]


@pytest.mark.parametrize(
    ("caller", "generate"),
    [
        ("hey_api", ("openapi-ts", "-s", "-o", "client", "-i")),
        ("openapi_fetch", ("openapi-typescript", "-o", "schema.d.ts")),
    ],
)
def test_typescript(
    document: Path, server_url: str, with_node_modules: Path, caller: str, generate: tuple[str, ...]
) -> None:
    node, folder = installed("node"), with_node_modules
    ran(folder / "node_modules" / ".bin" / generate[0], *generate[1:], document, folder=folder)
    shutil.copy(CALLERS / f"{caller}.ts", folder)
    options = ("--strict", "--skipLibCheck", "--target", "es2022", "--module", "nodenext", "--types", "node")
    ran(folder / "node_modules" / ".bin" / "tsc", *options, "--outDir", "out", f"{caller}.ts", folder=folder)
    assert json.loads(ran(node, f"out/{caller}.js", server_url, folder=folder)) == ANSWERS


JAR = Path(openapi_generator_cli.__file__).parent / "openapi-generator.jar"
ONLY_CODE = ("--global-property", "apis,models,supportingFiles,apiTests=false,modelTests=false")


def test_openapi_generator_python(document: Path, server_url: str, tmp_path: Path) -> None:
    ran(installed("java"), "-jar", JAR, "generate", "-g", "python", "-i", document, *ONLY_CODE, folder=tmp_path)
    caller = shutil.copy(CALLERS / "openapi_generator_python.py", tmp_path)
    assert json.loads(ran(sys.executable, caller, server_url, folder=tmp_path)) == ANSWERS


OF_FORMS = [Path("/usr/share/java") / f"{name}.jar" for name in ("httpmime", "httpcore")]

ANY_JSON = ("Tensor", "Stride", "KernelSize", "Dilation", "Padding", "OutputPadding", "OutputSize")
"""What this generator makes no type of that compiles: alternatives of which one is a list."""


def test_openapi_generator_java_native(document: Path, server_url: str, tmp_path: Path) -> None:
    java, javac = installed("java"), installed("javac")
    if not OF_FORMS[0].exists():
        pytest.skip(f"{OF_FORMS[0]} is not installed (Debian's package libhttpmime-java)")
    ran(
        *(java, "-jar", JAR, "generate", "-g", "java", "--library", "native", "-i", document),
        *("-o", tmp_path / "client"),
        *("--schema-mappings", ",".join(f"{name}=Object" for name in ANY_JSON)),
        *("--additional-properties", "openApiNullable=false,containerDefaultToNull=true"),
        *ONLY_CODE,
        folder=tmp_path,
    )
    # what the client's pom.xml asks for: Jackson, which is in the generator's own archive, and HttpClient for forms
    needed = os.pathsep.join(map(str, (JAR, *OF_FORMS)))
    sources = [*(tmp_path / "client" / "src" / "main").rglob("*.java"), *CALLERS.glob("*.java")]
    ran(javac, "-nowarn", "-encoding", "utf-8", "-d", "classes", "-cp", needed, *sources, folder=tmp_path)
    classes = f"{tmp_path / 'classes'}{os.pathsep}{needed}"
    assert json.loads(ran(java, "-cp", classes, "Calls", server_url, folder=tmp_path)) == ANSWERS
