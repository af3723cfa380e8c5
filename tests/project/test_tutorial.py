"""docs/tutorial.md: everything on it works and prints what is printed there, and its functions are the notebook's."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.mistakes.notebook import NOTEBOOK_FUNCTIONS
from tests.pages import Page

PAGE = Page("docs/tutorial.md")
FUNCTIONS = next(content for content in PAGE.of("python") if content.startswith("# notebook.py"))
NUMPY = tuple(map(int, np.__version__.split(".")[:2]))


def functions() -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(FUNCTIONS, "notebook.py", "exec"), names)
    return names


def test_everything_on_the_page_works_as_printed(server_url: str, tmp_path: Path) -> None:
    checked = 0
    for expected, printed in PAGE.outputs(tmp_path, server_url):
        assert printed == expected
        checked += 1
    assert checked == 10


def test_the_functions_are_those_of_the_notebook_with_their_faults() -> None:
    _, *on_the_page = ast.parse(FUNCTIONS).body  # the first statement imports NumPy
    assert [ast.dump(each) for each in on_the_page] == [
        ast.dump(each) for each in ast.parse(NOTEBOOK_FUNCTIONS.read_text()).body
    ]


def test_the_bias_is_an_error_from_numpy_2_4_on() -> None:
    operands = np.ones((1, 2, 2, 1)), np.ones((1, 1, 1, 1)), np.ones((1, 1, 1, 1))
    if NUMPY < (2, 4):
        pytest.skip("NumPy makes a number of an array with axes")
    with pytest.raises(TypeError):
        functions()["convolve_forward"](*operands, 1, 0)


def test_a_global_that_no_cell_has_set_is_an_error() -> None:
    ones = np.ones((1, 1, 1, 1))
    with pytest.raises(NameError, match="pad"):
        functions()["convolve_backward"](ones, ones, ones, ones)


def test_links_lead_somewhere() -> None:
    assert list(PAGE.broken_links()) == []
