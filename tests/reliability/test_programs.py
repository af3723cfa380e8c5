"""Short runs of the programs that attack a server: counts and statuses only, as the machine may be busy."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from reliability import chaos, fuzz, fuzz_codecs, report, soak
from reliability.calls import CheckedCall, small_calls
from reliability.load import Figures
from reliability.mutations import Mutated, mutated
from reliability.outcome import SCENARIOS, Context, Outcome, Scenario
from reliability.wire import Response, head
from service.problems import UnreadablePayload

SECONDS = 0.5
ABOUT_TIME = {"p99 within twice idle or 50 ms", "health within 100 ms", "processor free 0.5 s after the clients left"}
SHORT_SCENARIOS = ("tiny_chunks", "coming_and_going", "long_queries")


@pytest.fixture(scope="module")
def calls() -> Sequence[CheckedCall]:
    return small_calls()


# --------------------------------------------------------------------------------------------------------------- chaos


@pytest.mark.parametrize("name", SHORT_SCENARIOS)
def test_a_scenario(name: str, calls: Sequence[CheckedCall], tmp_path: Path) -> None:
    result = chaos.outcome_of(SCENARIOS[name], Context(SECONDS, tmp_path, calls))
    counted = {criterion: holds for criterion, holds in result["criteria"].items() if criterion not in ABOUT_TIME}
    assert counted
    assert all(counted.values()), result
    assert result["figures"]["attack_200"] > 0


def chaos_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Any) -> tuple[int, dict[str, Any]]:
    monkeypatch.setitem(SCENARIOS, "made_up", Scenario("made_up", "A test.", run))
    monkeypatch.setattr("reliability.chaos.small_calls", list)
    file = tmp_path / "figures.json"
    status = chaos.main(["--only", "made_up", "--json", str(file)])
    return status, json.loads(file.read_text())["scenarios"][0]


def test_a_criterion_that_does_not_hold_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_: Context, outcome: Outcome) -> None:
        outcome.note(broken=3)
        outcome.require("no connection broken", holds=False)
        outcome.require("something else", holds=True)

    status, result = chaos_with(monkeypatch, tmp_path, run)
    assert status == 1
    assert not result["passed"]
    assert "made_up: broken 3: FAILED: no connection broken\n" in capsys.readouterr().out


def test_a_scenario_that_cannot_run_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(*_: object) -> None:
        raise ConnectionResetError

    status, result = chaos_with(monkeypatch, tmp_path, run)
    assert status == 1
    assert result["criteria"] == {"the scenario ran to its end (ConnectionResetError)": False}


def test_a_scenario_whose_criteria_hold_passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    status, result = chaos_with(monkeypatch, tmp_path, lambda _, outcome: outcome.require("all", holds=True))
    assert status == 0
    assert result["passed"]


@pytest.mark.parametrize(
    ("during", "failed"),
    [
        (Figures([10.0] * 100, Counter({200: 100})), []),
        (Figures([49.0] * 100, Counter({200: 100})), []),
        (Figures([10.0] * 90 + [51.0] * 10, Counter({200: 100})), ["p99 within twice idle or 50 ms"]),
        (Figures([], Counter()), ["p99 within twice idle or 50 ms", "all answered 200"]),
        (Figures([10.0] * 100, Counter({200: 99, 503: 1})), ["all answered 200"]),
        (Figures([10.0] * 100, Counter({200: 100}), failures=Counter(Broken=1)), ["no request lost"]),
        (Figures([10.0] * 100, Counter({200: 100}), wrong=Counter(wrong=1)), ["no wrong answer"]),
    ],
)
def test_what_small_requests_must_not_notice(during: Figures, failed: list[str]) -> None:
    outcome = Outcome()
    outcome.require_unharmed(Figures([10.0] * 100), during)
    assert outcome.failed == failed


# ------------------------------------------------------------------------------------------------------- soak and fuzz


def test_a_short_soak() -> None:
    outcome = soak.soaked(seconds=2.0, clients=8)
    assert not outcome.failed, outcome
    assert float(outcome.figures["responses"]) > 0


def test_a_few_changed_requests(calls: Sequence[CheckedCall]) -> None:
    outcome = fuzz.fuzzed(calls, requests=400, seed=1)
    assert not outcome.failed, outcome
    assert {name for name in outcome.figures if name.startswith("status_")} >= {"status_200", "status_400"}


def test_a_changed_request_can_be_made_again(calls: Sequence[CheckedCall]) -> None:
    seeds = fuzz.seeds_of(calls)
    requests = [mutated(seeds, 1, number) for number in range(200)]
    assert requests == [mutated(seeds, 1, number) for number in range(200)]
    assert len({request.content for request in requests}) > 190
    assert {request.is_framed for request in requests} == {True, False}


PROBLEM = b'{"type":"a","title":"b","status":400,"detail":"c","errors":[]}'
IN_PROBLEMS = {"content-type": "application/problem+json"}


@pytest.mark.parametrize(
    ("status", "headers", "content", "is_framed", "is_v2", "fault"),
    [
        (400, IN_PROBLEMS, PROBLEM, True, False, ""),
        (400, {"content-type": "application/json"}, b'{"error":"x"}', True, True, ""),
        (400, {"content-type": "application/json"}, b'{"error":"x"}', True, False, "status 400 without a problem"),
        (404, IN_PROBLEMS, PROBLEM, True, False, "status 404 without a problem"),
        (400, IN_PROBLEMS, b"<p>", True, False, "status 400 without JSON"),
        (400, IN_PROBLEMS, PROBLEM + b" " * 8192, True, False, "status 400 with 8254 bytes"),
        (500, IN_PROBLEMS, PROBLEM.replace(b"400", b"500"), True, False, "status 500"),
        (505, IN_PROBLEMS, PROBLEM.replace(b"400", b"505"), True, False, "status 505"),
        (505, IN_PROBLEMS, PROBLEM.replace(b"400", b"505"), False, False, ""),
        (503, IN_PROBLEMS, PROBLEM.replace(b"400", b"503"), True, False, "503 without Retry-After"),
        (503, {**IN_PROBLEMS, "retry-after": "1"}, PROBLEM.replace(b"400", b"503"), True, False, ""),
        (200, {}, b"anything", True, False, ""),
    ],
)
def test_what_may_come_back(
    status: int, headers: dict[str, str], content: bytes, is_framed: bool, is_v2: bool, fault: str
) -> None:
    request = Mutated(head("/"), is_framed, is_v2)
    found = fuzz.fault_in(Response(status, headers, content), request)
    assert found.startswith(fault)
    assert bool(found) == bool(fault)


# --------------------------------------------------------------------------------------------------------------- codecs


def test_each_codec_has_bodies_to_start_from() -> None:
    corpora, decoders = fuzz_codecs.corpora(), fuzz_codecs.decoders()
    assert corpora.keys() == decoders.keys()
    for name, bodies in corpora.items():
        assert bodies
        for body in bodies:
            decoders[name](body)
            decoders[name](body[:-1])


class Codec:
    """Raises what it is given."""

    reads_views = False

    def __init__(self, error: Exception) -> None:
        self._error = error

    def decode(self, *_: object) -> None:
        raise self._error


def test_only_problems_with_the_request_are_no_findings() -> None:
    fuzz_codecs.decoder(Codec(UnreadablePayload()))(b"")
    with pytest.raises(RecursionError):
        fuzz_codecs.decoder(Codec(RecursionError()))(b"")


# --------------------------------------------------------------------------------------------------------------- report


def test_the_tables_are_written_in_their_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(_: Context, outcome: Outcome) -> None:
        outcome.note(idle_p99_ms=1.5, attack_p99_ms=2.5, attack_max_ms=9.5, mib_before=80, mib_peak=90)
        outcome.require("all | answered", holds=False)

    chaos_with(monkeypatch, tmp_path, run)
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n{report.BEGIN}\n\nold\n\n{report.END}\n\nend\n")
    report.main([str(tmp_path / "figures.json"), "--page", str(page)])
    text = page.read_text()
    assert text.startswith("# Title\n\n")
    assert text.endswith("\n\nend\n")
    assert "old" not in text
    assert "| `made_up` | A test. | 1.5 | 2.5 | 9.5 | 80 to 90 | **all \\| answered** |" in text


def test_the_page_has_a_place_for_the_tables() -> None:
    assert report.written(report.PAGE.read_text(), [])
    with pytest.raises(ValueError, match="no lines"):
        report.written("", [])
