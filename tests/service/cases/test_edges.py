"""The table of edges: what is in it, which of them a request gets, and that results are those of loops."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from service.cases.computing import Case
from service.cases.edge_table import EDGES
from service.cases.edges import Edge
from service.cases.operands import FILLS
from service.problems import InvalidRequest
from tests.oracle.windows import OracleError
from tests.service.cases.oracles import ENTRIES, FLOATING, call_of, cases_of, expected, rounded

MAX_LOOPED = 5000
"""Elements up to which the loops take no time."""

TYPES = ("float16", "float32", "float64")


def edge_of(case: Case) -> Edge:
    assert case.layer.edge is not None
    return case.layer.edge


def test_an_edge_is_named_and_says_what_breaks_there() -> None:
    assert len({edge.id for edge in EDGES}) == len(EDGES)
    assert len({edge.purpose for edge in EDGES}) > 0.8 * len(EDGES)
    for edge in EDGES:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)+", edge.id)
        assert re.fullmatch(r"[A-Z0-9].*[^.]\.", edge.purpose)
        assert set(edge.fills.values()) <= set(FILLS)
        assert set(edge.fills) <= {*edge.shapes, "grad_output"}


@pytest.mark.parametrize(
    ("corner", "layers"),
    [
        ("single-element", {"conv", "conv_transpose", "pool"}),
        ("kernel-as-large-as-input", {"conv", "pool", "unfold"}),
        ("stride-over-kernel", {"conv", "conv_transpose", "pool", "unfold", "fold"}),
        ("uneven-padding", {"conv", "conv_transpose", "pool", "unfold"}),
        ("ceil-mode-overhang", {"pool"}),
        ("ties", {"pool"}),
        ("nan", {"conv", "conv_transpose", "pool"}),
        ("infinities", {"conv", "pool"}),
        ("signed-zeros", {"conv", "pool"}),
        ("depthwise", {"conv", "conv_transpose", "conv_integer"}),
        ("odd-dilation", {"conv", "conv_transpose", "pool", "unfold", "fold"}),
        ("one-axis", {"conv", "conv_transpose", "pool", "unpool", "unfold", "fold"}),
        ("three-axes", {"conv", "conv_transpose", "pool", "unfold", "fold"}),
        ("same", {"conv", "conv_transpose"}),
    ],
)
def test_the_corners_are_there_for_each_layer_that_they_concern(corner: str, layers: set[str]) -> None:
    assert {edge.layer for edge in EDGES if corner in edge.id} >= layers


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("layer", ENTRIES)
def test_results_of_edges_are_those_of_loops(layer: str, data_format: str) -> None:
    for dtype in TYPES if ENTRIES[layer] in FLOATING else ("uint8", "int8"):
        call = call_of(layer, kind="edges", dtype=dtype, parameters={"data_format": data_format, **every_mode(layer)})
        for case in cases_of(call):
            if max(array.size for array in case.operands.values()) > MAX_LOOPED:
                continue
            with np.errstate(invalid="ignore"):
                try:
                    wanted = expected(call, case)
                except OracleError:  # the loops have no gradient of norms that are not finite
                    assert edge_of(case).id == "lp-nan"
                    continue
            for name, result in case.results.items():
                if edge_of(case).id == "lp-padding" and name == "grad_input" and dtype == "float64":
                    np.testing.assert_allclose(result, wanted[name], rtol=1e-14)  # roots are rounded
                else:
                    np.testing.assert_array_equal(result, rounded(wanted[name], call.dtype), err_msg=edge_of(case).id)


def every_mode(layer: str) -> dict[str, Any]:
    return {"mode": "any"} if ENTRIES[layer].selector else {}


def test_long_sums_are_right() -> None:
    """Those that the loops would take long for, and that float16 sums get wrong."""
    results = {
        edge_of(case).id: case.results
        for layer in ("conv", "pool")
        for case in cases_of(call_of(layer, kind="edges", dtype="float16"))
    }
    assert results["conv-many-terms"]["output"].tolist() == [[[[2304.0]]]]
    assert results["avg-many-terms"]["output"].tolist() == [[[[1.0]]]]


@pytest.mark.parametrize("fill", ["NaN", "infinities", "all kinds"])
def test_special_values_are_in_every_operand_that_they_are_for(fill: str) -> None:
    found = 0
    for entry in FLOATING:
        for case in cases_of(call_of(entry.name, kind="edges", seed=8)):
            for name, filled in edge_of(case).fills.items():
                if filled == fill:
                    values = case.operands[name]
                    found += 1
                    assert np.isnan(values).any() == (fill != "infinities")
                    assert (np.isposinf(values).any() and np.isneginf(values).any()) == (fill != "NaN")
                    assert np.isfinite(values).any()
    assert found > 1


def test_a_count_beyond_the_table_starts_it_again_with_other_values() -> None:
    size = call_of("fold", kind="edges").count
    cases = cases_of(call_of("fold", kind="edges", count=2 * size))
    assert size == sum(edge.layer == "fold" for edge in EDGES)
    for first, second in zip(cases[:size], cases[size:], strict=True):
        assert edge_of(first) is edge_of(second)
        assert not np.array_equal(first.operands["input"], second.operands["input"], equal_nan=True)


def test_parameters_choose_the_edges_that_have_them() -> None:
    ids = [edge_of(case).id for case in cases_of(call_of("conv", kind="edges", parameters={"stride": 2}))]
    assert "conv-kernel-as-large-as-input" in ids
    assert "conv-axes-differ" not in ids
    assert "conv-stride-over-kernel" not in ids
    first = [
        edge_of(case) for case in cases_of(call_of("pool", kind="edges", parameters={"mode": "max", "ties": "first"}))
    ]
    assert {edge.id for edge in first} >= {"max-ties-first", "max-nan"}
    assert all(edge.id.startswith("max-") for edge in first)
    assert not {edge.id for edge in first} & {"max-ties-all", "max-ties-split"}


@pytest.mark.parametrize("layer", [entry.name for entry in FLOATING])
def test_edges_of_one_rank(layer: str) -> None:
    parameters = {"spatial_axes": [1, 3], **every_mode(layer)}
    cases = cases_of(call_of(layer, kind="edges", parameters=parameters))
    assert {len(case.layer.resolved.windows.axes) for case in cases} <= {1, 3}
    planes = cases_of(call_of(layer, kind="edges", parameters={**parameters, "spatial_axes": 2}))
    assert len(planes) > len(cases)
    assert len(planes) + len(cases) == call_of(layer, kind="edges").count


def test_free_parameters_keep_what_an_edge_is_about() -> None:
    given = {"mode": "max", "index_scheme": ["tensor"], "return_indices": True}
    cases = {edge_of(case).id: case for case in cases_of(call_of("pool", kind="edges", parameters=given))}
    assert "indices" in cases["max-windows-overlap"].results
    assert getattr(cases["max-nan"].layer.op, "index_scheme", "") == "tensor"
    assert "max-indices-of-image" not in cases


def test_parameters_of_no_edge_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="no edge in the table has these parameters"):
        call_of("conv", kind="edges", parameters={"stride": 17})
    with pytest.raises(InvalidRequest, match="edges have the shapes of the table"):
        call_of("conv", kind="edges", shapes={"input": [1, 4, 4, 1]})
