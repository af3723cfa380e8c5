"""Every tensor as tables, text and files."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

import cnn_core
from tests.browser.playground.bare import Bare, tensor

VALUES = [0.1, -0.0, np.nan, np.inf, -np.inf, 1e-300, 1 / 3, 2.0**60, 5, -7, 11, 13]


def opened(bare: Bare, tensors: dict[str, Any], op: str = "conv", **parameters: Any) -> None:
    tensors = {name: tensor(array) for name, array in tensors.items()}
    state = {"op": op, "parameters": parameters, "tensors": tensors, "view": "forward"}
    bare.open("table", "Tables", state, True)


def operands() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {"input": rng.normal(size=(2, 3, 4, 2)), "weight": rng.normal(size=(2, 3, 2, 3)), "bias": rng.normal(size=3)}


def output_of(tensors: dict[str, Any], **parameters: Any) -> Any:
    return cnn_core.Conv(**parameters).forward(**tensors)


def test_every_number_stands_in_a_table_in_full(bare: Bare) -> None:
    tensors = operands()
    opened(bare, tensors)
    for name, array in (tensors | {"output": output_of(tensors)}).items():
        tables = bare.page.locator(f'[data-table="{name}"] table')
        read = []
        for table in tables.all():
            rows = table.locator("tbody tr").all()
            read.append([[float(cell) for cell in row.locator("td").all_inner_texts()] for row in rows])
        expected = {
            "input": lambda a: np.moveaxis(a, -1, 1).reshape(-1, 3, 4),
            "output": lambda a: np.moveaxis(a, -1, 1).reshape(-1, *a.shape[1:3]),
            "weight": lambda a: np.transpose(a, (3, 2, 0, 1)).reshape(-1, 2, 3),
            "bias": lambda a: a.reshape(1, 1, 3),
        }[name](array)
        np.testing.assert_array_equal(np.array(read), expected)
        caption = tables.first.locator("caption").inner_text()
        assert caption.startswith(f"{name}, {' × '.join(map(str, array.shape))}, float64")  # noqa: RUF001
    heads = bare.page.locator('[data-table="input"] table').first.locator("th").all_inner_texts()
    assert heads == ["0", "1", "2", "3", "0", "1", "2"]
    bare.look("table")


@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"]
)
@pytest.mark.parametrize("shape", [(12,), (2, 3, 2), (1, 1, 12, 1, 1), ()])
def test_npy_files_are_those_of_numpy(bare: Bare, dtype: str, shape: tuple[int, ...]) -> None:
    values = VALUES if dtype.startswith("float") else range(100, 112)
    array = np.array(list(values)[: int(np.prod(shape))]).astype(dtype).reshape(shape)
    script = """async (tensor) => {
      const { npyBytes } = await import("/playground/table.js");
      return [...npyBytes(tensor)];
    }"""
    content = bytes(bare.evaluate(script, tensor(array)))
    loaded = np.load(io.BytesIO(content))
    assert loaded.dtype == array.dtype
    assert loaded.tobytes() == array.tobytes()
    assert loaded.shape == shape
    expected = io.BytesIO()
    np.save(expected, array)
    assert content == expected.getvalue()


def test_a_file_is_downloaded(bare: Bare, tmp_path: Path) -> None:
    tensors = operands()
    opened(bare, tensors)
    with bare.page.expect_download() as download:
        bare.page.get_by_role("button", name="Download output as npy").click()
    assert download.value.suggested_filename == "output.npy"
    download.value.save_as(tmp_path / "output.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "output.npy"), output_of(tensors))


def test_texts_are_copied(bare: Bare) -> None:
    tensors = operands()
    opened(bare, tensors)
    bare.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    bare.page.get_by_role("button", name="Copy input as JSON").click()
    expect(bare.page.get_by_text("input is copied.")).to_be_visible()
    copied = json.loads(bare.evaluate("navigator.clipboard.readText()"))
    np.testing.assert_array_equal(np.array(copied), tensors["input"])
    bare.page.get_by_role("button", name="Copy weight as TSV").click()
    expect(bare.page.get_by_text("weight is copied.")).to_be_visible()
    blocks = bare.evaluate("navigator.clipboard.readText()").split("\n\n")
    read = [np.loadtxt(io.StringIO(block), delimiter="\t") for block in blocks]
    np.testing.assert_array_equal(np.array(read), np.transpose(tensors["weight"], (3, 2, 0, 1)).reshape(-1, 2, 3))
    bare.page.context.clear_permissions()


def test_what_the_browser_does_not_copy_is_shown_to_be_copied_by_hand(bare: Bare) -> None:
    opened(bare, operands())
    bare.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    bare.page.get_by_role("button", name="Copy bias as JSON").click()
    expect(bare.page.locator("textarea")).to_have_value(json.dumps(operands()["bias"].tolist()))


def test_special_values_are_written_as_python_reads_them(bare: Bare) -> None:
    script = "async (tensor) => (await import('/playground/table.js')).jsonText(tensor)"
    array = np.array(VALUES).reshape(3, 4)
    loaded = np.array(json.loads(bare.evaluate(script, tensor(array))))
    assert loaded.tobytes() == array.tobytes()


def test_a_large_tensor_is_cut_and_that_is_said(bare: Bare) -> None:
    opened(bare, {"input": np.zeros((1, 300, 2, 3)), "weight": np.zeros((1, 1, 3, 1))})
    tables = bare.page.locator('[data-table="input"] table')
    expect(tables).to_have_count(1)
    expect(bare.page.locator('[data-table="input"]')).to_contain_text("2 more tables are not drawn")
    long = (
        "async (tensor) => (await import('/playground/table.js')).tsvText(tensor, ['N', '*spatial0', '*spatial1', 'C'])"
    )
    assert bare.evaluate(long, tensor(np.zeros((1, 300, 2, 3)))).count("\n") == 3 * 299 + 2 * 2
