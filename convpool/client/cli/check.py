"""``convpool check``: compare what someone computed with what is right, and say what the difference looks like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from ...cases import Cases, read_npz
from ..operations import OPERANDS
from ..reports import Report
from .arguments import Given, UsageError, checked_layer, client_of, command_parser, flag_of, load, parse, waiting
from .formats import FORMATS, Checked, CheckedCase

__all__ = ["run"]

CLAIMED = "claimed_"
DIFFERS = 1

EPILOG = """\
examples:
  convpool check conv --input x.npy --weight w.npy --claimed-output y.npy --stride 2
  convpool check conv --cases cases.npz --claimed mine.npz

mine.npz has arrays that are called as in the cases: case_0007/output, case_0007/grad_input, and so on.
exit status: 0 if everything agrees, 1 if something differs, 2 if it could not be checked"""


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    parser = command_parser(
        "check",
        "Compare what you computed with what is right and, where it differs, say which mistake it looks like.",
        "LAYER (--cases FILE --claimed FILE | --OPERAND FILE.npy ... --claimed-RESULT FILE.npy ... "
        "[--PARAMETER VALUE ...])",
        EPILOG,
    )
    parser.add_argument("layer", metavar="LAYER", help="such as conv")
    parser.add_argument("--cases", metavar="FILE", help="made by `convpool cases`")
    parser.add_argument("--claimed", metavar="FILE", help="an .npz of what you computed for the cases")
    parser.add_argument(
        "--only-claimed", action="store_true", help="leave out cases for which nothing is claimed; else they differ"
    )
    parser.add_argument("--accumulation", metavar="DTYPE", help="of your sums, if it is not that of your results")
    parser.add_argument("--format", choices=FORMATS, default="text", help="of the report (default: text)")
    given = parse(parser, arguments)
    checked_layer(given.own.layer)
    if bool(given.own.cases) != bool(given.own.claimed):
        raise UsageError("--cases and --claimed go together: one file of `convpool cases`, and one of your results")
    if given.own.cases:
        checked = Checked(given.own.layer, _check_cases(given))
    else:
        checked = Checked(given.own.layer, [_check_layer(given)], of_cases=False)
    FORMATS[given.own.format](checked)
    return 0 if checked.agree else DIFFERS


def _check_layer(given: Given) -> CheckedCase:
    layer = given.own.layer
    known = OPERANDS.get(f"{layer}_backward", OPERANDS[f"{layer}_forward"])
    tensors = {
        name: load(name, values) for name, values in given.flags.items() if name in known or name.startswith(CLAIMED)
    }
    claimed = {name.removeprefix(CLAIMED): tensor for name, tensor in tensors.items() if name.startswith(CLAIMED)}
    operands = {name: tensor for name, tensor in tensors.items() if name in known}
    if not claimed:
        raise UsageError(
            "nothing is claimed: give what you computed, such as --claimed-output y.npy, or --cases and --claimed"
        )
    with client_of(given.own) as client, waiting(f"checking {layer}"):
        report = client.check(layer, operands, claimed, accumulation=given.own.accumulation, **given.texts(*tensors))
    return CheckedCase(layer, "", report)


def _check_cases(given: Given) -> list[CheckedCase]:
    if given.flags:
        raise UsageError(f"{flag_of(next(iter(given.flags)))}: the cases have their parameters and operands")
    cases = Cases.load(given.own.cases)
    if cases.layer != given.own.layer:
        raise UsageError(f"{given.own.cases} has cases of {cases.layer}, not of {given.own.layer}")
    claims = _claims(cases, given.own.claimed)
    claimed = [case for case in cases if claims[case.name]]
    general = {"layer": cases.layer, "accumulation": given.own.accumulation}
    calls = (
        {**general, "operands": case.operands, "claimed": claims[case.name], **case.parameters} for case in claimed
    )
    with client_of(given.own) as client:
        reports = _tracked(client.map("check", calls), len(claimed))
        found = dict(zip((case.name for case in claimed), reports, strict=True))
    return [
        CheckedCase(case.name, case.purpose, found.get(case.name))
        for case in cases
        if case.name in found or not given.own.only_claimed
    ]


def _claims(cases: Cases, path: str) -> dict[str, dict[str, NDArray[Any]]]:
    """Return what is claimed for each case.

    Raises
    ------
    UsageError
    """
    try:
        arrays = read_npz(Path(path).read_bytes(), path)
    except OSError as error:
        raise UsageError(f"--claimed {path}: {error.strerror}") from None
    claims: dict[str, dict[str, NDArray[Any]]] = {case.name: {} for case in cases}
    results = {case.name: tuple(case.results) for case in cases}
    for name, array in arrays.items():
        case, _, result = name.partition("/")
        if result not in results.get(case, ()):
            expected = next(f"{each.name}/{of_it}" for each in cases for of_it in each.results)
            raise UsageError(
                f"--claimed {path}: its array {name[:80]!r} is no result of the cases; names are like {expected}"
            )
        claims[case][result] = array
    if not arrays:
        raise UsageError(f"--claimed {path}: it is empty; it should have arrays called like case_0000/output")
    return claims


def _tracked(reports: Iterator[Report], total: int) -> Iterable[Report]:
    """Show in a terminal how far the checks are."""
    console = Console(stderr=True)
    return track(reports, "checking", total, console=console, transient=True, disable=not console.is_terminal)
