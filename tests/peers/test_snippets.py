"""The code that the playground offers for other frameworks prints the numbers of the picture.

``draw`` of tests/snippets.py draws the layers again. Their operands are small integers: sums of products are exact.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.declarations import BY_NAME
from tests.peers.tally import Tally
from tests.snippets import Layer, code_for, draw, integers

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")

CASES = {"torch": 24, "onnx": 30, "jax": 4, "tensorflow": 12}
ABSENT = {
    "torch": {"conv_integer", "qlinear_conv"},
    "onnx": {"unfold"},
    "jax": {"conv_integer", "qlinear_conv", "unpool"},
    "tensorflow": {"conv_integer", "qlinear_conv", "unpool", "lp", "fold"},
}
"""The layers that a framework does not have."""
MODULES = {"torch": "torch", "onnx": "onnxruntime", "jax": "jax", "tensorflow": "tensorflow"}
ROUNDED = {"avg", "lp"}
"""Layers that divide or take roots; ONNX Runtime does that in float32."""
TOLERANCES = {"onnx": 1e-6, "tensorflow": 1e-6}


def printed(code: str) -> list[Any]:
    """Run the code as it is, and return what each line that it prints says."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        exec(compile(code, "snippet.py", "exec"), {"__name__": "__main__"})
    return [json.loads(line) for line in text.getvalue().splitlines()]


def check(tally: Tally, framework: str, layer: Layer, code: str) -> None:
    expected = layer.expected
    numbers = printed(code)
    if "has no indices" in code or "counts indices" in code or "the indices:" in code:
        expected.pop("indices", None)
    assert len(numbers) == len(expected)
    for (name, array), value in zip(expected.items(), numbers, strict=True):
        assert np.shape(value) == array.shape, name
        actual, wanted = np.asarray(value, np.float64), array.astype(np.float64)
        if layer.declaration.name == "qlinear_conv":  # scaled in float32, as the code says
            assert np.abs(actual - wanted).max() <= 1
            continue
        tolerance = TOLERANCES.get(framework, 1e-12) if layer.declaration.name in ROUNDED else 0.0
        tally.close(name, actual, wanted, tolerance)


@pytest.mark.parametrize("framework", list(MODULES))
def test_the_code_prints_the_numbers(framework: str, seed: int, server_url: str, finish: Callable[..., None]) -> None:
    pytest.importorskip(MODULES[framework])
    tally, compared = Tally(f"snippets, {framework}"), set()
    layers = [
        layer for declaration in BY_NAME.values() for layer in draw(declaration, CASES[framework], seed, integers)
    ]
    for layer, codes in zip(layers, code_for(layers, server_url), strict=True):
        code = codes[framework]
        if code.startswith("# No call"):
            tally.outside[f"{layer.declaration.name}: {code.splitlines()[1][2:]}"] += 1
            continue
        compared.add(layer.declaration.name)
        tally.check(layer, layer.view, lambda layer=layer, code=code: check(tally, framework, layer, code))
    finish(tally)
    assert set(BY_NAME) - compared == ABSENT[framework]
