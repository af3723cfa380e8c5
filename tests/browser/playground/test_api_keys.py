"""A service that asks for API keys: the page asks for one, and the code to be copied has the place of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.page import OUTPUT
from tests.browser.playground.access import serious
from tests.browser.playground.behaviour import conv_of
from tests.browser.playground.fragments import fragment_of
from tests.browser.playground.layers import Example
from tests.browser.playground.layout import faults_of
from tests.browser.playground.playground import Playground
from tests.browser.playground.programs import ANSWERS, run_all
from tests.clients import running_server

KEY = "a-key-of-the-tests-0123456789"
OTHER = "another-key-of-the-tests-0123"


@pytest.fixture(scope="module")
def guarded_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(KEY)
    with running_server("--api-keys-file", str(path)) as (base_url, _):
        yield base_url


@pytest.fixture
def guarded(context: BrowserContext, guarded_url: str) -> Iterator[Playground]:
    """A page that has asked for a key."""
    with context.new_page() as page:
        playground = Playground(page, guarded_url)
        page.goto(guarded_url)
        expect(page.locator("#key")).to_contain_text("This service asks for an API key")
        yield playground


def enter(playground: Playground, key: str) -> None:
    playground.page.get_by_label("API key").fill(key)
    playground.page.get_by_role("button", name="Use it").click()


def special() -> Example:
    """A layer whose numbers JSON does not have."""
    finite = conv_of()
    tensors = finite.tensors | {"input": np.where(finite.tensors["input"] > 2, np.inf, finite.tensors["input"])}
    assert not np.isfinite(tensors["input"]).all()
    return Example(finite.op, finite.parameters, tensors)


def test_a_key_is_asked_for_until_it_is_one(guarded: Playground) -> None:
    page = guarded.page
    OUTPUT.mkdir(exist_ok=True)
    enter(guarded, OTHER)
    expect(page.locator("#key")).to_contain_text("This service does not take that API key")
    for width, height in ((375, 667), (1024, 768)):
        page.set_viewport_size({"width": width, "height": height})
        page.screenshot(path=OUTPUT / f"playground-key-{width}.png")
        assert faults_of(page) + serious(page) == []
    enter(guarded, KEY)
    guarded.await_picture()
    expect(page.locator("#key")).to_have_count(0)
    guarded.go(fragment_of(conv_of(2, 1)))
    assert list(guarded.values()["output"].values()) == conv_of(2, 1).computed()["output"].reshape(-1).tolist()
    assert KEY not in page.url


@pytest.mark.parametrize("identifier", list(ANSWERS))
def test_the_code_takes_the_key_from_the_environment(
    guarded: Playground, identifier: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, layers, codes = guarded.page, [conv_of(), special()], []
    enter(guarded, KEY)
    guarded.await_picture()
    for layer in layers:
        guarded.go(fragment_of(layer, tab="code"))
        page.locator(f"[data-snippet={identifier}]").click()
        expect(page.locator("#panel")).to_contain_text("Your API key is not in the code")
        codes.append(page.locator("#panel pre").text_content() or "")
    assert KEY not in "".join(codes)
    monkeypatch.setenv("CONVPOOL_API_KEY", KEY)
    for layer, text in zip(layers, run_all(identifier, codes, tmp_path), strict=True):
        np.testing.assert_array_equal(ANSWERS[identifier](text)["output"], layer.computed()["output"])
    monkeypatch.setenv("CONVPOOL_API_KEY", OTHER)
    assert re.search(r"\b401\b", run_all(identifier, codes[:1], tmp_path)[0])


def test_code_of_other_libraries_needs_no_key(guarded: Playground) -> None:
    enter(guarded, KEY)
    guarded.await_picture()
    guarded.go(fragment_of(conv_of(), tab="code"))
    for identifier in ("cnn_core", "torch"):
        guarded.page.locator(f"[data-snippet={identifier}]").click()
        expect(guarded.page.locator("#panel pre")).to_contain_text("import")
        expect(guarded.page.locator("#panel")).not_to_contain_text("API key")
