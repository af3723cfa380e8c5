"""What a person reads of a report."""

from __future__ import annotations

import json
import math

from convpool.client import Report
from tests.client.golden import REPORT


def test_a_report_says_what_differs_where_and_why() -> None:
    report = Report.read(json.dumps(REPORT).encode())
    assert str(report).splitlines() == [
        "output differs: 1 of 2 elements is off",
        "  largest error inf; rounding allows 1e-06",
        "  first at [0, 1, 0]: got inf, expected 1.5",
        "  Only the last position is off.",
        "grad_input differs: its shape is (1, 2), and should be (2, 1)",
        "grad_bias agrees: largest error 2.5e-07",
        "explains output: The padding is on the other side.",
        "  rule: docs/where-frameworks-disagree.md#padding",
        "Look at the padding.",
    ]


def test_numbers_that_json_has_not_are_numbers() -> None:
    report = Report.read(json.dumps(REPORT).encode())
    assert report.tensors["output"].max_absolute_error == math.inf
    assert report.tensors["output"].max_relative_error is None
    assert report.document == REPORT


def test_what_does_not_fit_is_said_only_if_nothing_does() -> None:
    near = REPORT["explanations"][1]
    report = Report.read(json.dumps(REPORT | {"explanations": [near], "tensors": {}}).encode())
    assert str(report).splitlines()[0] == "close, but does not fit: The result is multiplied by 2."
    assert math.isnan(report.explanations[0].residual)


def test_operands_may_lead_to_no_result() -> None:
    shapes = {"shape": {"got": [1]}, "where": {"pattern": "shape", "sentence": "There is none."}}
    tensors = {"grad_input": REPORT["tensors"]["grad_input"] | shapes}
    report = Report.read(json.dumps(REPORT | {"tensors": tensors}).encode())
    assert str(report).splitlines()[:2] == ["grad_input cannot be compared", "  There is none."]
