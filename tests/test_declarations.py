"""Every op of the catalogue has a test declaration, and every declaration is of an op of the catalogue."""

from __future__ import annotations

from typing import Any

import pytest

from service.operations.catalogue import CATALOGUE
from tests.declarations import BY_NAME, DECLARATIONS
from tests.declarations.declaration import Declaration

OPS = {mode or entry.name: (entry.name, mode, op) for entry in CATALOGUE for mode, op in entry.ops.items()}


@pytest.mark.parametrize("name", OPS)
def test_an_op_of_the_catalogue_has_a_test_declaration(name: str) -> None:
    assert name in BY_NAME, f"add tests/declarations/{name}.py with a DECLARATION of {name}"
    declared = BY_NAME[name]
    assert (declared.layer, declared.mode, declared.op) == OPS[name]


@pytest.mark.parametrize("declared", DECLARATIONS, ids=str)
def test_a_declaration_is_of_an_op_of_the_catalogue(declared: Declaration) -> None:
    assert declared.name in OPS


@pytest.mark.parametrize("declared", DECLARATIONS, ids=str)
def test_a_declaration_uses_every_operand_in_its_example(declared: Declaration) -> None:
    operands: dict[str, Any] = declared.example.operands
    assert set(operands) == {operand.name for operand in declared.op.operands}
    assert "" in declared.examples
