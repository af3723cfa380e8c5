"""The command ``convpool check``."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from convpool.__main__ import main
from convpool.client import Cases
from tests.client.commands import IMAGE, Output, StandIn, fails
from tests.client.golden import REPORT, archive

pytestmark = pytest.mark.usefixtures("files")


def claim(wrong: int | None = None, without: int | None = None) -> None:
    """Write what a port would claim: right but for one case, for which the output is 0, and without one."""
    claimed = {f"{case.name}/output": case.results["output"] for case in Cases(archive())}
    if wrong is not None:
        claimed[f"case_{wrong:04}/output"] = 0 * claimed[f"case_{wrong:04}/output"]
    if without is not None:
        del claimed[f"case_{without:04}/output"]
    np.savez("mine.npz", **claimed)  # type: ignore[arg-type]


class TestCheck:
    OF_CASES = ("check", "conv", "--cases", "cases.npz", "--claimed", "mine.npz")

    @pytest.fixture(autouse=True)
    def _cases(self, files: None, stand_in: StandIn) -> None:  # noqa: ARG002 both come first
        Path("cases.npz").write_bytes(archive())

    def test_cases_that_agree(self, capsys: Output) -> None:
        claim()
        assert main(self.OF_CASES) == 0
        assert capsys.readouterr() == ("conv: 3 of 3 cases agree\n", "")

    def test_the_type_of_the_sums_is_said(self, stand_in: StandIn) -> None:
        claim()
        assert main([*self.OF_CASES, "--accumulation", "float16"]) == 0
        np.save("x.npy", np.ones((1, 4, 1)))
        np.save("w.npy", np.ones((2, 1, 1)))
        command = ["check", "conv", "--input", "x.npy", "--weight", "w.npy", "--claimed-output", "x.npy"]
        assert main([*command, "--accumulation=float64"]) == 1
        assert [request.url.params["accumulation"] for request in stand_in.requests] == [*["float16"] * 3, "float64"]

    def test_a_case_that_differs(self, capsys: Output, stand_in: StandIn) -> None:
        claim(wrong=1)
        assert main(self.OF_CASES) == 1
        first, *report, last = capsys.readouterr().out.splitlines()
        assert first == "case_0001: stride over kernel"
        assert report[0] == "  output differs: 1 of 2 elements is off"
        assert "  explains output: The padding is on the other side." in report
        assert report[-1] == "case_0001: The padding is on the other side."
        assert last == "conv: 2 of 3 cases agree"
        assert len(stand_in.requests) == 3

    def test_a_case_for_which_nothing_is_claimed_differs(self, capsys: Output) -> None:
        claim(without=2)
        assert main(self.OF_CASES) == 1
        assert (
            capsys.readouterr().out
            == "case_0002\n  nothing is claimed\ncase_0002: nothing is claimed\nconv: 2 of 3 cases agree\n"
        )
        assert main([*self.OF_CASES, "--only-claimed"]) == 0
        assert capsys.readouterr().out == "conv: 2 of 2 cases agree\n"

    def test_alike_cases_are_counted(self, capsys: Output) -> None:
        np.savez("mine.npz", **{f"case_{index:04}/output": np.zeros(3) for index in range(2)})  # type: ignore[arg-type]
        assert main(self.OF_CASES) == 1
        *_, often, once, last = capsys.readouterr().out.splitlines()
        assert often == "2 cases such as case_0000: The padding is on the other side."
        assert once == "case_0002: nothing is claimed"
        assert last == "conv: 0 of 3 cases agree"

    def test_json(self, capsys: Output) -> None:
        claim(wrong=0, without=2)
        assert main([*self.OF_CASES, "--format", "json"]) == 1
        document = json.loads(capsys.readouterr().out)
        assert (document["layer"], document["agrees"]) == ("conv", False)
        assert [case["agrees"] for case in document["cases"].values()] == [False, True, False]
        assert document["cases"]["case_0000"] == REPORT

    def test_junit(self, capsys: Output) -> None:
        claim(wrong=1)
        assert main([*self.OF_CASES, "--format", "junit"]) == 1
        root = ET.fromstring(capsys.readouterr().out)
        (suite,) = root
        assert (root.tag, suite.tag, suite.get("tests"), suite.get("failures")) == ("testsuites", "testsuite", "3", "1")
        assert [case.get("name") for case in suite] == ["case_0000", "case_0001", "case_0002"]
        (failure,) = suite[1]
        assert failure.get("message") == "output differs: 1 of 2 elements is off"
        assert "explains output: The padding is on the other side." in (failure.text or "")
        assert not [*suite[0], *suite[2]]

    def test_one_layer(self, capsys: Output, stand_in: StandIn) -> None:
        np.save("x.npy", np.ones((1, 4, 1)))
        np.save("w.npy", np.ones((2, 1, 1)))
        np.save("y.npy", np.full((1, 3, 1), 2.0))
        np.save("z.npy", np.full((1, 3, 1), 3.0))
        command = ["check", "conv", "--input", "x.npy", "--weight", "w.npy", "--claimed-output"]
        assert main([*command, "y.npy", "--stride", "1"]) == 0
        assert main([*command, "z.npy", "--format", "json"]) == 1
        assert json.loads(capsys.readouterr().out) == REPORT
        assert main([*command, "z.npy"]) == 1
        assert capsys.readouterr().out.startswith("output differs: ")
        assert dict(stand_in.requests[0].url.params) == {"stride": "1"}

    @pytest.mark.parametrize(
        ("command", "words"),
        [
            (["check", "conv"], "nothing is claimed: give what you computed, such as --claimed-output y.npy"),
            (["check", "conv", "--cases", "cases.npz"], "--cases and --claimed go together"),
            ([*OF_CASES, "--stride", "2"], "--stride: the cases have their parameters"),
            (["check", "pool", *OF_CASES[2:]], "cases.npz has cases of conv, not of pool"),
            (["check", "conv", "--cases", "x.npy", "--claimed", "mine.npz"], "is an npz"),
            (["check", "conv", "--cases", "absent.npz", "--claimed", "mine.npz"], "No such file"),
            (
                ["check", "conv", "--cases", "cases.npz", "--claimed", "absent.npz"],
                "--claimed absent.npz: No such file",
            ),
            (["check", "conv", "--cases", "cases.npz", "--claimed", "x.npy"], "x.npy is an npz"),
            (["check", "conv", "--cases", "cases.npz", "--claimed", "odd.npz"], "'case_0000/ouput' is no result"),
            (["check", "conv", "--cases", "cases.npz", "--claimed", "empty.npz"], "it is empty"),
        ],
    )
    def test_what_cannot_be_checked_is_said(self, capsys: Output, command: list[str], words: str) -> None:
        claim()
        np.savez("odd.npz", **{"case_0000/ouput": IMAGE})  # type: ignore[arg-type]
        np.savez("empty.npz")
        assert words in fails(capsys, *command)
