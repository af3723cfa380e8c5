"""A module of the playground on a page of its own: real service, real modules, no main.js around them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from playwright.sync_api import Page, Route

from tests.browser.page import MILLISECONDS, OUTPUT

PLAYGROUND = Path(__file__).parents[3] / "service" / "playground"
TYPES = {".js": "text/javascript", ".css": "text/css"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DOCUMENT = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>bare</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="playground/style.css">
<script type="module" src="bare/main.js"></script></head>
<body><main><div id="panel"></div></main></body></html>"""
SCRIPT = """
import { computePicture, layersOf } from "../playground/picture.js";
import { Service } from "../playground/service.js";
import { render } from "../playground/vendor/lit-html.js";

const service = new Service("");
const ops = await service.get("/ops");
const layers = layersOf(ops);

window.open = async ({ module, name, state, picture }) => {
  const exports = await import(`../playground/${module}.js`);
  const place = document.querySelector("#panel");
  window.context = {
    service, ops, state: { item: 0, by: "", ...state }, picture: null, drawings: 0,
    get layer() { return layers.find(({ name }) => name === this.state.op); },
    async change(changes) {
      this.state = { ...this.state, ...changes };
      if (picture) await this.compute();
      this.redraw();
      await window.panel.update?.();
    },
    async compute() {
      const call = (path, body) => service.call(path, body);
      this.picture = await computePicture(this.layer, this.state, call);
    },
    redraw() { render(window.panel.template(), place); this.drawings += 1; },
  };
  if (picture) await window.context.compute();
  window.panel = new exports[name](window.context);
  window.context.redraw();
  await window.panel.start?.();
};
window.ready = true;
"""


def tensor(array: Any, dtype: str | None = None) -> dict[str, Any]:
    """An array as the page's modules hold it."""
    array = np.asarray(array, dtype=dtype)
    return {"dtype": str(array.dtype), "shape": list(array.shape), "data": array.ravel().tolist()}


def array_of(tensor: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The opposite; a tensor comes out of the browser as such, NaN and infinity too."""
    return np.array(tensor["data"], dtype=np.float64).astype(tensor["dtype"]).reshape(tensor["shape"])


class Bare:
    """The page, on which one module is open."""

    def __init__(self, page: Page, server_url: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.set_default_timeout(MILLISECONDS)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: message.type in ("error", "warning") and self._complain(message.text))
        page.route(lambda url: urlsplit(url).path.startswith(("/playground/", "/bare")), self._serve)
        page.goto(f"{server_url}/bare")
        self.wait("window.ready")

    def _complain(self, text: str) -> None:
        if "422" not in text:  # a problem document is an answer
            self.complaints.append(text)

    @staticmethod
    def _serve(route: Route) -> None:
        path = urlsplit(route.request.url).path
        if path == "/bare":
            headers = {"Content-Security-Policy": POLICY}
            route.fulfill(body=DOCUMENT, content_type="text/html", headers=headers)
        elif path == "/bare/main.js":
            route.fulfill(body=SCRIPT, content_type="text/javascript")
        else:
            file = PLAYGROUND / path.removeprefix("/playground/")
            route.fulfill(body=file.read_text(), content_type=TYPES[file.suffix])

    def open(self, module: str, name: str, state: dict[str, Any] | None = None, picture: bool = False) -> None:
        """Open the class of a module, with the picture of the state if asked for; return once it has started."""
        self.page.evaluate(
            "(options) => window.open(options)",
            {
                "module": module,
                "name": name,
                "state": state or {},
                "picture": picture,
            },
        )

    def evaluate(self, expression: str, argument: Any = None) -> Any:
        return self.page.evaluate(expression, argument)

    def tensor(self, expression: str) -> np.ndarray[Any, Any]:
        """A tensor of the page."""
        return array_of(self.page.evaluate(expression))

    def wait(self, condition: str) -> None:
        """Until an expression holds; playwright's wait_for_function is not allowed by the policy."""
        script = """async (limit) => {
          const end = performance.now() + limit;
          while (!(%s)) {
            if (performance.now() > end) throw new Error("never: %s");
            await new Promise((go) => setTimeout(go, 5));
          }
        }"""
        self.page.evaluate(script % (condition, condition.replace('"', "'")), MILLISECONDS)

    def settled(self) -> None:
        self.wait("!panel.busy")

    def grid(self, name: str) -> dict[int, str]:
        """What stands in the cells of a tensor's grids, by flat index."""
        cells = self.page.locator(f'[data-tensor="{name}"] [data-index]')
        pairs = cells.evaluate_all("cells => cells.map(cell => [Number(cell.dataset.index), cell.dataset.value])")
        return dict(pairs)

    def look(self, name: str) -> None:
        """Screenshots for people: light and dark, wide and narrow."""
        OUTPUT.mkdir(exist_ok=True)
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)
            for width in (1280, 375):
                self.page.set_viewport_size({"width": width, "height": 800})
                self.page.screenshot(path=OUTPUT / f"{name}-{scheme}-{width}.png", full_page=True)
