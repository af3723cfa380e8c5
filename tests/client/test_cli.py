"""The commands ``convpool call`` and ``convpool cases``, and what all commands do."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cnn_core import __version__
from convpool.__main__ import COMMANDS, main
from convpool.client.operations import OPERANDS
from service.operations.catalogue import OPERATIONS
from tests.client.commands import CONV, FLAGS, IMAGE, WEIGHT, Output, StandIn, fails
from tests.client.golden import archive

pytestmark = pytest.mark.usefixtures("files")

PROJECT = Path(__file__).parents[2]


class TestCall:
    def test_one_result_becomes_an_npy(self, capsys: Output) -> None:
        assert main(["call", "conv/forward", "--local", *FLAGS, "-o", "out.npy"]) == 0
        assert capsys.readouterr().out == "output: float32 (1, 4, 5, 8) -> out.npy\n"
        np.testing.assert_array_equal(np.load("out.npy"), CONV.forward(IMAGE, WEIGHT))

    @pytest.mark.parametrize("target", ["grads.npz", "grads/"])
    def test_several_results_become_an_npz_or_a_folder(self, capsys: Output, target: str) -> None:
        command = ["call", "conv/backward", "--local", "--grad-output", "y.npy", *FLAGS, "--wrt", "input", "bias"]
        assert main([*command, "-o", target]) == 0
        gradients = CONV.backward(CONV.forward(IMAGE, WEIGHT), IMAGE, WEIGHT)
        names = {"grad_input", "grad_bias"}
        if target.endswith("z"):
            with np.load(target) as archived:
                assert set(archived) == names
                results = dict(archived)
        else:
            assert {path.stem for path in Path(target).iterdir()} == names
            results = {name: np.load(f"{target}{name}.npy") for name in names}
        for name in names:
            np.testing.assert_array_equal(results[name], getattr(gradients, name))
        assert len(capsys.readouterr().out.splitlines()) == 2

    def test_results_are_printed_if_there_is_no_file(self, capsys: Output) -> None:
        np.save("x.npy", np.array([[[1.0], [3.0], [3.0], [2.0]]]))
        command = ["call", "pool/forward", "--local", "--input", "x.npy", "--mode", "max", "--kernel_size", "2"]
        assert main([*command, "--return-indices"]) == 0
        printed = capsys.readouterr().out.split()
        assert printed[:3] == ["output:", "float64", "(1,"]
        assert "".join(printed) == "output:float64(1,2,1)[[[3.],[3.]]]indices:int64(1,2,1)[[[1],[2]]]"

    def test_numbers_need_no_file(self, capsys: Output) -> None:
        np.save("x.npy", np.array([[[3], [5]]], np.uint8))
        np.save("w.npy", np.array([[[2]]], np.uint8))
        command = ["call", "conv_integer/forward", "--local", "--input", "x.npy", "--weight", "w.npy"]
        assert main([*command, "--input-zero-point", "1"]) == 0
        assert "[[[4],\n  [8]]]" in capsys.readouterr().out

    def test_what_the_server_refuses(self, capsys: Output) -> None:
        said = fails(capsys, "call", "conv/forward", "--local", *FLAGS, "--dilatoin", "2", "--groups", "-1")
        assert "/dilatoin: unknown name dilatoin; did you mean dilation?" in said
        assert "/groups: " in said
        assert "got -1" in said
        assert "request id: " in said

    @pytest.mark.parametrize(
        ("command", "words"),
        [
            (["conv/forwrd"], "did you mean conv/forward?"),
            (["conv/forward", "--weight", "w.npy"], "conv/forward needs --input FILE.npy too"),
            (["conv/forward", "--input", "absent.npy"], "--input absent.npy: No such file or directory"),
            (["conv/forward", "--input", "text.npy"], "--input text.npy: is no .npy file"),
            (["conv/forward", "--input", "empty.npy"], "--input empty.npy: is no .npy file"),
            (["conv/forward", "--input", "many.npz"], "--input many.npz: is an .npz with several arrays"),
            (["conv/forward", "--input", "x.npy", "w.npy"], "--input takes one .npy file; got 2 values"),
            (["conv/forward", "--input", "x.npy", "--input=w.npy"], "--input is given twice"),
            (["conv/forward", "x.npy"], "unexpected argument x.npy"),
            (["conv/forward", *FLAGS, "-x"], "unexpected argument -x"),
            (["conv/forward", *FLAGS, "--url", "localhost:80"], "begins with http"),
            (["conv/forward", *FLAGS, "--local", "-o", "y.txt"], "name an .npy, an .npz, or a folder"),
            (["conv/forward", *FLAGS, "--local", "-o", "no/where.npy"], "No such file or directory"),
            (["conv/backward", "--grad-output", "y.npy", *FLAGS, "--local", "-o", "g.npy"], "there are 3 results"),
        ],
    )
    def test_what_cannot_be_done_is_said(self, capsys: Output, command: list[str], words: str) -> None:
        Path("text.npy").write_text("[1, 2]")
        Path("empty.npy").touch()
        np.savez("many.npz", a=IMAGE)
        assert words in fails(capsys, "call", *command)

    def test_what_local_needs_is_named(self, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "convpool.service.app", None)
        said = fails(capsys, "call", "conv/forward", *FLAGS, "--local")
        assert "pip install 'convpool[client,service]'" in said


class TestCases:
    @pytest.mark.parametrize(
        ("flags", "accept"),
        [
            (["-o", "cases.npz"], "application/x-npz"),
            (["-o", "cases.safetensors"], "application/vnd.safetensors"),
            (["-o", "cases.json"], "application/json"),
            (["-o", "cases.jsonl"], "application/jsonl"),
            (["-o", "cases.bin"], "application/x-npz"),
            (["-o", "cases.npz", "--format", "json"], "application/json"),
        ],
    )
    def test_the_file_is_what_the_server_sends(self, stand_in: StandIn, flags: list[str], accept: str) -> None:
        assert main(["cases", "conv", "--seed", "7", *flags]) == 0
        (request,) = stand_in.requests
        assert request.headers["Accept"] == accept
        assert json.loads(request.content) == {"seed": 7, "parameters": {}}
        assert Path(flags[1]).read_bytes() == archive()

    def test_flags_say_what_the_cases_are_of(self, stand_in: StandIn) -> None:
        command = ["cases", "conv", "-o", "c.npz", "--count", "3", "--kind", "edges", "--dtype", "float64"]
        command += ["--directions", "forward", "backward"]
        own = ["--padding", "same", "--stride", "1", "[2,1]", "--dilation", "any", "--input", "1", "[4,9]", "null"]
        assert main([*command, *own]) == 0
        assert json.loads(stand_in.requests[0].content) == {
            "count": 3,
            "kind": "edges",
            "dtype": "float64",
            "directions": ["forward", "backward"],
            "parameters": {"padding": "same", "stride": [1, [2, 1]], "dilation": "any"},
            "shapes": {"input": [1, [4, 9], None]},
        }

    def test_standard_output(self, stand_in: StandIn, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        assert main(["cases", "conv", "-o", "-"]) == 0
        assert capfdbinary.readouterr().out == archive()
        assert len(stand_in.requests) == 1

    def test_what_cannot_be_done_is_said(self, capsys: Output, stand_in: StandIn) -> None:
        assert "there is no layer 'cnov'; did you mean conv?" in fails(capsys, "cases", "cnov", "-o", "c.npz")
        assert "No such file" in fails(capsys, "cases", "conv", "-o", "no/where.npz")
        assert len(stand_in.requests) == 1


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), **variables}
    return subprocess.run(
        [sys.executable, "-m", "convpool", *command], env=environment, capture_output=True, text=True, check=False
    )


def test_no_parameter_has_the_name_of_a_flag_of_a_command(capsys: Output) -> None:
    parameters = {name for each in OPERATIONS for model in each.models.values() for name in model.model_fields}
    for command in ("call", "cases", "check"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        flags = set(re.findall(r"^  (?:-o \w+, )?--([a-z-]+)", capsys.readouterr().out, re.MULTILINE))
        assert flags >= {"url", "local", "timeout"}
        assert not flags & {name.replace("_", "-") for name in (*parameters, *OPERANDS["conv_backward"])}


def test_a_process_calls_a_server(server_url: str) -> None:
    ended = run("call", "conv/forward", *FLAGS, "-o", "out.npy", CONVPOOL_URL=server_url)
    assert (ended.returncode, ended.stderr) == (0, "")
    np.testing.assert_array_equal(np.load("out.npy"), CONV.forward(IMAGE, WEIGHT))
    ended = run("call", "conv/forward", *FLAGS, "--stride-typo", "1", "--url", server_url)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "/stride_typo: unknown name" in ended.stderr


def test_the_help_names_every_command_whatever_is_installed() -> None:
    script = (
        "import sys; sys.modules |= dict.fromkeys(['httpx', 'rich', 'uvicorn', 'pydantic'])\n"
        "from convpool.__main__ import COMMANDS, main\n"
        "for arguments in (['--help'], ['--version'], *([name] for name in COMMANDS)):\n"
        "    try: main(arguments)\n"
        "    except SystemExit as ended: print('ended with', ended.code)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    run = [sys.executable, "-c", script]
    printed = subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout
    helped, version, after_version, *lacking = printed.split("ended with ")
    assert all(f"    {name} " in helped for name in COMMANDS)
    assert version == f"0\nconvpool {__version__}\n"
    assert after_version == "0\n"
    assert len(lacking) == len(COMMANDS)
    for command, said in zip(COMMANDS.values(), lacking, strict=True):
        assert f"pip install 'convpool[{command.extra}]'" in said


def test_a_command_that_there_is_not(capsys: Output) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["surf"])
    assert ended.value.code == 2
    assert "invalid choice: 'surf'" in capsys.readouterr().err


def test_serving_imports_nothing_of_the_client() -> None:
    script = "import sys, convpool.service.cli; print(sorted({'httpx', 'rich', 'convpool.client'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    printed = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert printed.stdout == "[]\n"


def in_a_terminal(*command: str, **variables: str) -> str:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "TERM": "xterm", **variables}
    process = subprocess.Popen(
        [sys.executable, "-m", "convpool", *command], env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        return b"".join(_read(terminal)).decode() + f"{process.wait()}"


def _read(terminal: io.FileIO) -> Iterator[bytes]:
    try:
        while piece := terminal.read(4096):
            yield piece
    except OSError:  # Linux: the other end is closed
        return


def test_a_terminal_gets_colours_unless_they_are_not_wanted(server_url: str) -> None:
    command = ["call", "pool/forward", "--input", "x.npy", "--mode", "max", "--kernel-size", "3", "--url", server_url]
    assert "\x1b[1moutput" in in_a_terminal(*command)
    plain = in_a_terminal(*command, NO_COLOR="1", TERM="dumb")
    assert "output: float32" in plain
    assert "\x1b[1m" not in plain
