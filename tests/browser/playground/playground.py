"""The playground as the tests use it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from playwright.sync_api import Locator, Page
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

from tests.browser.page import RecordedPage

READY = "Number(document.documentElement.dataset.ready ?? 0)"
SETTLED = f"(before) => {READY} > before"
"""The page counts the drawings that are complete: of the latest state, with its links or with what is wrong with it."""

RECORD = """
    window.violations = [];
    document.addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI, sourceFile, lineNumber }) =>
      window.violations.push(`${violatedDirective}: ${blockedURI} at ${sourceFile}:${lineNumber}`));
    const [send, flights] = [window.fetch, (window.flights = { now: 0, most: 0 })];
    window.fetch = async (...request) => {
      flights.most = Math.max(flights.most, ++flights.now);
      try {
        return await send(...request);
      } finally {
        flights.now--;
      }
    };
"""

READ_CELLS = """() => [...document.querySelectorAll("#picture [role=gridcell]")].map((cell) => [
    cell.closest("[data-tensor]").dataset.tensor,
    cell.dataset.index ?? null,
    cell.dataset.frame ?? null,
    cell.dataset.value,
    cell.textContent.trim(),
    cell.className,
])"""

READ_TABLES = """() => [...document.querySelectorAll("#picture [data-tensor]")].map((table) => [
    table.dataset.tensor,
    [...table.rows].map((row) => [...row.cells].map(({ dataset }) => Number(dataset.frame ?? dataset.index))),
])"""

WALK = """(wanted) => {
  const place = (cell) => cell.dataset.index === undefined
    ? `frame:${cell.dataset.frame}` : `${cell.closest("[data-tensor]").dataset.tensor}:${cell.dataset.index}`;
  const answers = [];
  for (const [tensor, index] of wanted) {
    const cell = document.querySelector(`#picture [data-tensor="${tensor}"] [data-index="${index}"]`);
    if (!cell) return null;
    cell.dispatchEvent(new PointerEvent("pointerover", { bubbles: true, pointerType: "mouse" }));
    const formula = document.querySelector("#formula");
    answers.push({
      lit: [...document.querySelectorAll("#picture .lit")].map(place),
      here: [...document.querySelectorAll("#picture .here")].map(place),
      lit_frame: [...document.querySelectorAll("#picture .lit[data-frame]")].map((lit) => Number(lit.dataset.frame)),
      source: [...document.querySelectorAll("#picture .source")].map((cell) => Number(cell.dataset.frame)),
      formula: formula.textContent, value: formula.dataset.value ?? null,
    });
  }
  return answers;
}"""


MILLISECONDS = 10_000


class Cell(NamedTuple):
    """A cell that is shown; ``index`` and ``frame`` are flat indices, None where the cell has none."""

    tensor: str
    index: int | None
    frame: int | None
    value: float
    text: str
    classes: frozenset[str]


class Playground(RecordedPage):
    """The page at /, and what it shows."""

    def __init__(self, page: Page, server_url: str) -> None:
        super().__init__(page)
        page.set_default_timeout(MILLISECONDS)
        self.server_url = server_url
        page.add_init_script(RECORD)

    # ------------------------------------------------------------------------------------------------------ opening

    def open(self, fragment: str = "", path: str = "/") -> None:
        """Load the page anew, and wait until it shows the state of the fragment."""
        self.page.goto("about:blank")  # from the page itself to another fragment is no navigation
        self.page.goto(self.server_url + path + fragment)
        self.settle(0)

    def go(self, fragment: str) -> None:
        """Change the fragment of the page that is open, and wait until it shows that state."""
        before = self.drawings()
        if self.page.evaluate(
            "(fragment) => { const old = location.hash; location.hash = fragment; return location.hash !== old; }",
            fragment,
        ):
            self.settle(before)

    @contextlib.contextmanager
    def drawing(self) -> Iterator[None]:
        """Wait after the block until what it did is drawn."""
        before = self.drawings()
        yield
        self.settle(before)

    def drawings(self) -> int:
        return int(self.page.evaluate(READY))

    def settle(self, before: int) -> None:
        with self.patience("another drawing"):
            self.page.wait_for_function(SETTLED, arg=before)

    def await_picture(self) -> None:
        """Wait until the picture is that of the parameters shown, with its links."""
        with self.patience("a picture of the parameters shown"):
            self.page.wait_for_selector("#picture:not(.stale)[data-links=true]")

    def await_address(self, condition: str, argument: str = "") -> None:
        """Wait until the fragment, `hash`, is as a JavaScript condition of it and of `argument` says."""
        with self.patience(f"an address with {condition}"):
            self.page.wait_for_function(f"(argument) => ((hash) => {condition})(location.hash)", arg=argument)

    @contextlib.contextmanager
    def patience(self, awaited: str) -> Iterator[None]:
        try:
            yield
        except PlaywrightTimeoutError as error:
            complaints = self.complaints or "no complaints"
            raise AssertionError(f"waited in vain for {awaited}, at {self.fragment()}; {complaints}") from error

    # ------------------------------------------------------------------------------------------------------ reading

    def cells(self) -> list[Cell]:
        """Every cell of every grid of the picture."""
        read: list[list[Any]] = self.page.evaluate(READ_CELLS)
        return [
            Cell(
                tensor,
                None if index is None else int(index),
                None if frame is None else int(frame),
                float(value),
                text,
                frozenset(classes.split()),
            )
            for tensor, index, frame, value, text, classes in read
        ]

    def tables(self) -> dict[str, list[list[list[int]]]]:
        """The grids of each tensor, as rows of flat indices: in the frame, where the input has one."""
        grids: dict[str, list[list[list[int]]]] = {}
        for tensor, rows in self.page.evaluate(READ_TABLES):
            grids.setdefault(tensor, []).append(rows)
        return grids

    def values(self) -> dict[str, dict[int, float]]:
        """The numbers of every tensor by flat index, without those of the padding."""
        tensors: dict[str, dict[int, float]] = {}
        for cell in self.cells():
            if cell.index is not None:
                assert cell.index not in tensors.setdefault(cell.tensor, {}), f"{cell} is drawn twice"
                tensors[cell.tensor][cell.index] = cell.value
        return tensors

    def cell(self, tensor: str, index: int) -> Locator:
        return self.page.locator(f'#picture [data-tensor="{tensor}"] [data-index="{index}"]')

    def walk(self, wanted: list[tuple[str, int]]) -> list[dict[str, Any]]:
        """Point at one cell after the other: what is lit then, and the formula; places are "tensor:index"."""
        answers: list[dict[str, Any]] | None = self.page.evaluate(WALK, wanted)
        assert answers is not None, f"not all of {wanted} are drawn"
        return answers

    def fragment(self) -> str:
        return str(self.page.evaluate("location.hash"))

    def violations(self) -> list[str]:
        found: list[str] = self.page.evaluate("window.violations")
        return found

    def most_in_flight(self) -> int:
        """The largest number of requests that were under way at once since the page was loaded."""
        return int(self.page.evaluate("window.flights.most"))

    def parameters(self) -> dict[str, str]:
        """What the controls of the parameters say."""
        said: dict[str, str] = self.page.evaluate(
            """() => Object.fromEntries([...document.querySelectorAll("#parameters [name]")].map((control) =>
                [control.name, control.type === "checkbox" ? String(control.checked) : control.value]))"""
        )
        return said

    def load_formulas(self) -> None:
        """The module of the formulas is loaded when the first cell needs one."""
        self.page.locator("#picture [data-tensor=output] [data-index]").first.hover()
        self.page.wait_for_selector("#formula[data-value]")

    def assert_sound(self) -> None:
        """Nothing was complained about, nobody else was asked, and no policy was violated."""
        self.assert_clean(self.server_url)
        assert self.violations() == []
