"""What is chosen in the fields of the page /docs is what is computed with."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, expect

from tests.browser.page import DocsPage, choose


def field(block: Locator, name: str) -> Locator:
    """The field of a query parameter."""
    return block.locator(f"tr[data-param-name={name}]").locator("input, select")


def json_value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


@pytest.mark.parametrize(
    ("path", "chosen"),
    [
        ("/conv/forward", {"stride": "2"}),
        ("/conv/forward", {"stride": "[2,1]", "padding": "[[1,0],[0,1]]"}),
        ("/conv/forward", {"padding": "valid", "dilation": "1", "groups": "1"}),
        ("/pool/forward", {"mode": "avg", "kernel_size": "[2,1]", "count_include_pad": "true"}),
        ("/pool/forward", {"mode": "lp", "norm_type": "1.5", "stride": ""}),
        ("/pool/backward", {"ties": "split", "framework": "torch", "data_format": "channels_last"}),
        ("/conv/backward", {"wrt": '["input"]'}),
        ("/fold/forward", {"output_size": "[3,2]"}),
        ("/conv/forward", {"spatial_axes": "2", "algorithm": "direct"}),
    ],
    ids=str,
)
def test_what_is_chosen_beside_the_json_example_counts(
    docs: DocsPage, server_url: str, path: str, chosen: dict[str, str]
) -> None:
    docs.open(server_url)
    block = docs.tried("POST", path)
    for name, text in chosen.items():
        if field(block, name).evaluate("element => element.tagName") == "SELECT":
            field(block, name).select_option(text)
        else:
            field(block, name).fill(text)
    status, shown = docs.answer(block)
    body = httpx.get(f"{server_url}/examples/{path[1:].replace('/', '_')}/request.json").json()
    whole = body | {name: json_value(text) for name, text in chosen.items()}
    whole = {name: value for name, value in whole.items() if value != ""}
    assert (status, shown) == (200, httpx.post(server_url + path, json=whole).json())
    docs.assert_clean(server_url)


def test_words_and_flags_are_chosen_from_a_list(docs: DocsPage, server_url: str) -> None:
    docs.open(server_url)
    block = docs.tried("POST", "/pool/backward")
    lists = {
        name: [text for text in field(block, name).locator("option").all_inner_texts() if text != "--"]
        for name in ("mode", "data_format", "framework", "index_scheme", "ties", "ceil_mode")
    }
    assert lists == {
        "mode": ["max", "avg", "lp"],
        "data_format": ["channels_last", "channels_first", "NWC", "NHWC", "NDHWC", "NCW", "NCHW", "NCDHW"],
        "framework": ["torch", "tensorflow", "onnx", "jax", "pytorch", "tf", "keras"],
        "index_scheme": ["plane", "image", "tensor"],
        "ties": ["first", "all", "split", "tensorflow", "tf", "keras"],
        "ceil_mode": ["true", "false"],
    }
    assert field(block, "mode").input_value() == "max"
    assert field(block, "ties").input_value() == ""


def test_only_what_the_example_needs_is_filled_in(docs: DocsPage, server_url: str) -> None:
    docs.open(server_url)
    block = docs.tried("POST", "/pool/forward")
    docs.answer(block)
    sent = [url for url in docs.requested if "/pool/forward" in url]
    assert sent == [f"{server_url}/pool/forward?mode=max&spatial_axes=2&kernel_size=2&stride=1"]


def test_a_form_asks_for_each_parameter_once(docs: DocsPage, server_url: str) -> None:
    docs.open(server_url)
    block = docs.tried("POST", "/conv/forward")
    choose(block, "multipart/form-data")
    body = block.locator(".opblock-section-request-body")
    expect(body.locator("input[type=file]")).to_have_count(3)
    expect(body.locator("input:not([type=file]):not([type=checkbox])")).to_have_count(0)
    names = block.locator("tr[data-param-name]").evaluate_all("rows => rows.map(row => row.dataset.paramName)")
    assert len(set(names)) == len(names)
