"""The forms of parameters and sizes as the tests use them."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Locator, Page

Json = Any

FORMS = """async ([op, more, problems, resolved, edit]) => {
  const layer = structuredClone(layerOf(op));
  if (edit) Object.assign(layer.forward.parameters.properties, edit);
  window.state = { ...DEFAULTS, ...(await changed({ ...DEFAULTS, op: "" }, layer, { op, ...more }, fetchExample)) };
  window.made = [];
  let last = Promise.resolve();
  const onChange = (changes) => {
    last = last.then(async () => {
      const given = typeof changes === "function" ? changes(state) : changes;
      made.push(given);
      state = await changed(state, layer, given, fetchExample);
      draw();
    });
  };
  window.settle = () => last;
  let resolvedOf = state.parameters;
  window.draw = (findings = problems, completed = resolved) => {
    problems = findings;
    if (completed !== resolved) resolvedOf = state.parameters;
    resolved = completed;
    const common = { operation: layer.forward, state, problems, onChange };
    const forms = [parameterForm({ ...common, resolved, resolvedOf }), sizesForm(common)];
    render(html`${forms}`, document.getElementById("page"));
    document.getElementById("page").dataset.drawn = made.length;
  };
  draw();
}"""


class Forms:
    """The two forms of a layer, drawn anew after each change as the page does."""

    def __init__(self, page: Page, op: str, **more: Json) -> None:
        self.page = page
        problems, resolved, edit = (more.pop(name, default) for name, default in _OTHERS)
        page.evaluate(
            "document.getElementById('page').replaceChildren(); delete document.getElementById('page')._$litPart$"
        )
        page.evaluate(FORMS, [op, more, problems, resolved, edit])

    def control(self, name: str) -> Locator:
        return self.page.locator(f'[name="{name}"]')

    def problems(self, *findings: tuple[str, str]) -> None:
        self.page.evaluate("(all) => draw(all)", [{"pointer": pointer, "message": text} for pointer, text in findings])

    def resolve(self, **parameters: Json) -> None:
        self.page.evaluate("(all) => draw([], all)", parameters)

    def settled(self) -> Json:
        """The state once all changes are made and drawn."""
        return self.page.evaluate(
            """async () => {
              await settle();
              return state;
            }"""
        )

    def parameter(self, name: str) -> Json:
        return self.settled()["parameters"].get(name, "left out")

    def shapes(self) -> Json:
        return {name: "x".join(map(str, one["shape"])) for name, one in self.settled()["tensors"].items()}

    def field(self, name: str) -> Locator:
        return self.page.locator(".field").filter(has=self.control(name))


_OTHERS: list[tuple[str, Json]] = [("problems", []), ("resolved", {}), ("edit", None)]
