"""docs/where-frameworks-disagree.md: every rule names its test, and the defaults are those of the code."""

import ast
import dataclasses
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import cnn_core
from cnn_core.ops.base import Op

PAGE = Path(__file__).parents[2] / "docs" / "where-frameworks-disagree.md"
TEXT = PAGE.read_text()
HEADER = "| rule | PyTorch | TensorFlow, Keras | JAX, flax | ONNX, ORT | convpool | test |"
LINK = re.compile(r"\[(test_\w+)\]\(([^)]+\.py)\)")
FRAMEWORKS = ("torch", "tensorflow", "onnx", "jax")


def tables(header: str) -> list[list[str]]:
    """The cells of all rows of the tables with this header."""
    rows = []
    for part in TEXT.split(header)[1:]:
        for line in part.splitlines()[2:]:
            if not line.startswith("|"):
                break
            rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


RULES = tables(HEADER)


@cache
def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_the_page_has_its_rules() -> None:
    assert len(RULES) >= 80
    assert all(len(cells) == HEADER.count("|") - 1 for cells in RULES)


@pytest.mark.parametrize("cells", RULES, ids=lambda cells: re.sub(r"\W+", "_", cells[0]))
def test_a_test_holds_convpool_to_its_cell(cells: list[str]) -> None:
    *_, convpool, test = cells
    assert convpool not in ("", "\N{EN DASH}")
    links = LINK.findall(test)
    assert links
    for name, file in links:
        assert name in functions_of((PAGE.parent / file).resolve())


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def test_the_defaults_are_those_of_the_code() -> None:
    expected = set()
    for name, op in vars(cnn_core).items():
        if not (isinstance(op, type) and issubclass(op, Op)):
            continue
        own = {
            field.name: field.default for field in dataclasses.fields(op) if field.default is not dataclasses.MISSING
        }
        defaults: list[dict[str, Any]] = [own, *(own | op.defaults_of(framework) for framework in FRAMEWORKS)]  # type: ignore[arg-type]
        for parameter in own:
            values = tuple(as_text(one[parameter]) for one in defaults)
            if len(set(values)) > 1:
                expected.add((name, parameter, *values))
    listed = {
        (name, *cells[1:])
        for cells in tables("| op | parameter | convpool | torch | tensorflow | onnx | jax |")
        for name in cells[0].split(", ")
    }
    assert {tuple(cell.strip() for cell in row) for row in listed} == expected
