"""What a person reads of a report."""

from __future__ import annotations

import json
import math

from convpool.client import Report
from tests.client.golden import REPORT


def test_a_report_says_what_differs_where_and_why() -> None:
    report = Report.read(json.dumps(REPORT).encode())
    assert str(report).splitlines() == [
        "output differs: 1 elements are off (50.0%)",
        "  largest error inf, tolerance 1e-06",
        "  first at [0, 1, 0]: got inf, expected 1.5",
        "  where: the last position only",
        "grad_input differs: its shape is (1, 2), and should be (2, 1)",
        "grad_bias agrees: largest error 2.5e-07",
        "explained: the padding is on the other side",
        "  the layer computes what was claimed with padding=[[1, 0]]",
        "  rule: docs/where-frameworks-disagree.md#padding",
    ]


def test_numbers_that_json_has_not_are_numbers() -> None:
    report = Report.read(json.dumps(REPORT).encode())
    assert report.tensors["output"].max_absolute_error == math.inf
    assert report.tensors["output"].max_relative_error is None
    assert report.document == REPORT


def test_a_report_without_an_explanation_says_so() -> None:
    report = Report.read(json.dumps(REPORT | {"explanations": []}).encode())
    assert str(report).splitlines()[-1] == "no explanation among 12 mistakes that were tried"
    right = Report.read(json.dumps(REPORT | {"agrees": True, "explanations": [], "tensors": {}}).encode())
    assert str(right) == ""
