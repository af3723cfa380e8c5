"""The README's commands run as printed, and its tables say what the code says."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from cnn_core import Conv, MaxPool
from service.http.api_keys import ApiKeys
from service.operations.catalogue import OPERATIONS
from service.operations.operation import Operation
from service.settings import Settings
from tests.pages import PRINTED_SERVER, PROJECT, Page

PAGE = Page("README.md")
README = PAGE.text


def output_printed_after(block: str) -> object:
    after = README.split(block, 1)[1]
    return json.loads(re.findall(r"^```json\n(.*?)^```", after, re.MULTILINE | re.DOTALL)[0])


def run(command: list[str], folder: Path) -> str:
    # python3 in a command is the interpreter of the tests, which has NumPy
    path = {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True, timeout=60, env=os.environ | path
    ).stdout


@pytest.mark.skipif(not (shutil.which("bash") and shutil.which("curl")), reason="bash or curl is not installed")
def test_curl_commands_work_as_printed(server_url: str, tmp_path: Path) -> None:
    checked, *with_json, with_files, of_inference, compressed, with_errors, _over_a_unix_socket = PAGE.of("bash")
    report = run(["bash", "-euc", checked.replace(PRINTED_SERVER, server_url)], tmp_path)
    printed = re.findall(r"^```text\n(.*?)^```", README.split(checked, 1)[1], re.MULTILINE | re.DOTALL)[0]
    parts = [part.strip().replace(",\n", ",").replace("\n", " ") for part in printed.split("...")]
    assert len(parts) == 4
    assert all(part in report for part in parts)
    assert len(with_json) == 3
    for block in with_json:
        answer = run(["bash", "-euc", block.replace(PRINTED_SERVER, server_url)], tmp_path)
        assert json.loads(answer) == output_printed_after(block)

    run(["bash", "-euc", with_files.replace(PRINTED_SERVER, server_url)], tmp_path)
    image, weight, bias, output, pooled = (np.load(tmp_path / f"{name}.npy") for name in ("x", "w", "b", "y", "pooled"))
    assert output.shape == (1, 8, 16, 16)
    conv = Conv(data_format="channels_first", stride=2, padding=1)
    np.testing.assert_array_equal(output, conv.forward(image, weight, bias))
    np.testing.assert_array_equal(pooled, MaxPool(data_format="channels_first", kernel_size=2).forward(output))

    answer = json.loads(run(["bash", "-euc", compressed.replace(PRINTED_SERVER, server_url)], tmp_path))
    np.testing.assert_array_equal(np.float32(answer["output"]), pooled.max((2, 3), keepdims=True))

    with pytest.raises(subprocess.CalledProcessError) as failed:  # as the text below the commands says
        run(["bash", "-euc", with_files.replace(PRINTED_SERVER, server_url).replace("stride=2", "stride=0")], tmp_path)
    assert failed.value.returncode == 22
    assert json.loads((tmp_path / "y.npy").read_text())["status"] == 422

    inference = json.loads(run(["bash", "-euc", of_inference.replace(PRINTED_SERVER, server_url)], tmp_path))
    assert [(tensor["name"], tensor["data"]) for tensor in inference["outputs"]] == [
        ("output", [3, 4]),
        ("indices", [1, 3]),
    ]

    problem = json.loads(run(["bash", "-euc", with_errors.replace(PRINTED_SERVER, server_url)], tmp_path))
    messages = {error["pointer"]: error for error in problem["errors"]}
    assert set(messages) == {"/kernel", "/kernel_size"}
    assert "did you mean kernel_size?" in messages["/kernel"]["message"]
    assert messages["/kernel_size"]["got"] == "0"
    assert messages["/kernel_size"]["expected"].startswith("an integer from 1")


# tests/inference_clients has the other one
@pytest.mark.parametrize("block", [block for block in PAGE.of("python") if "tritonclient" not in block])
def test_python_examples_work_as_printed(server_url: str, tmp_path: Path, block: str) -> None:
    printed = run([sys.executable, "-c", block.replace(PRINTED_SERVER, server_url)], tmp_path)
    assert printed == re.findall(r"^```text\n(.*?)^```", README.split(block, 1)[1], re.MULTILINE | re.DOTALL)[0]


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_javascript_example_works_as_printed(server_url: str, tmp_path: Path) -> None:
    (block,) = PAGE.of("js")
    (tmp_path / "example.mjs").write_text(block.replace(PRINTED_SERVER, server_url))
    assert json.loads(run(["node", "example.mjs"], tmp_path)) == output_printed_after(block)


@pytest.mark.skipif(not (shutil.which("bash") and shutil.which("openssl")), reason="bash or openssl is not installed")
def test_the_commands_make_an_api_key_that_is_valid(tmp_path: Path) -> None:
    block = re.findall(r"^  ```text\n(.*?)^  ```", README, re.MULTILINE | re.DOTALL)[0]
    make_key, add_to_file, *_serve_and_call = block.splitlines()
    key = run(["bash", "-euc", f"{make_key}\n{add_to_file}\nprintf %s $key"], tmp_path)
    assert len(key) == 64
    assert ApiKeys(str(tmp_path / "keys")).include(key.encode())
    assert key not in (tmp_path / "keys").read_text()


def test_spellings_of_parameters_are_read_as_the_table_says(server_url: str) -> None:
    table = README.split("Parameters in a query string, a form field or `__metadata__`:\n\n", 1)[1].split("\n\n", 1)[0]
    written = [re.findall(r"`([^`]*=[^`]*)`", row.split("|")[1]) for row in table.splitlines()[2:]]
    spellings = [spelling for row in written for spelling in row]
    assert len(spellings) == 9
    image = {"input": [[[[1.0, 2.0], [3.0, 4.0]]]]}
    for spelling in spellings:
        query = "mode=max&kernel_size=1&" + spelling
        response = httpx.post(f"{server_url}/pool/forward?{query}", json=image)
        assert response.status_code == 200, (spelling, response.text)


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    named = set(re.findall(r"`make ([a-z-]+)", README)) | set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE))
    assert named >= {"run", "test", "check", "test-browser", "test-peers", "help"}
    assert named <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


def rows(heading: str) -> dict[str, list[str]]:
    section = README.split(f"{heading}\n", 1)[1].split("\n#", 1)[0]
    table = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return {cells[0].strip(" `"): [cell.strip() for cell in cells[1:]] for cells in table[2:]}


def test_every_setting_stands_in_the_table_with_its_default() -> None:
    table = rows("## Settings")
    assert list(table) == [f"CONVPOOL_{name.upper()}" for name in Settings.model_fields]
    for name, field in Settings.model_fields.items():
        default, description = table[f"CONVPOOL_{name.upper()}"]
        assert description == field.description
        if field.default_factory is None:
            assert default == str(field.default)


def documented_operations() -> list[Operation]:
    """The operations in README's table: a new op may be described there later than it is added."""
    calls = " ".join(rows("## The calls"))
    named = set(re.findall(r"POST (/[a-z_]+/(?:forward|backward))", calls))
    assert named <= {operation.path for operation in OPERATIONS}
    assert len(named) >= 14
    return [operation for operation in OPERATIONS if operation.path in named]


def test_every_parameter_of_a_documented_operation_is_in_the_table() -> None:
    needed, known = (
        {name for operation in operations for model in operation.models.values() for name in model.model_fields}
        for operations in (documented_operations(), OPERATIONS)
    )
    assert needed <= set(rows("### Parameters")) <= known


def test_links_within_the_project_lead_somewhere() -> None:
    assert list(PAGE.broken_links()) == []
