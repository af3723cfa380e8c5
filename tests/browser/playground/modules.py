"""Modules of the playground in a page that holds nothing else."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

BLANK = """<!doctype html><html lang=en><meta charset=utf-8><title>blank</title>
<link rel=stylesheet href=/playground/style.css><div id=page></div>"""
IMPORT = """async (names) => {
  const modules = await Promise.all(names.map((name) => import(`/playground/${name}.js`)));
  Object.assign(window, ...modules);
  window.ops = await (await fetch("/ops")).json();
  window.layerOf = (op) => {
    const at = (direction) => ops.operations.find(({ path }) => path === `/${op}/${direction}`);
    return { name: op, forward: at("forward"), backward: at("backward") };
  };
  window.fetchExample = async (op) => (await fetch(`/examples/${op}_forward/request.json`)).json();
}"""


def blank_page(page: Page, server_url: str, *names: str) -> Page:
    """Open a blank page of the server; what the modules export are global names in it, and so is the answer ``ops``."""
    page.route(f"{server_url}/blank", lambda route: route.fulfill(body=BLANK, content_type="text/html"))
    page.goto(f"{server_url}/blank")
    page.evaluate(IMPORT, [*names])
    return page


def layer(op: str, page: Page) -> dict[str, Any]:
    """An op's forward operation as /ops lists it."""
    operation: dict[str, Any] = page.evaluate("(op) => layerOf(op).forward", op)
    return operation
