"""What a person would see at once of a page's layout: things that cover each other, text that is cut off, scrolling."""

from __future__ import annotations

from playwright.sync_api import Page

FAULTS = """() => {
  const interactive = "a[href], button, input, select, textarea, summary, [role=tab], [role=grid], #formula, #problem";
  const isShown = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  const named = (element) => element.tagName.toLowerCase() + (element.id ? `#${element.id}` : "")
    + (element.name ? `[name=${element.name}]` : "") + (element.dataset.tensor ? `[${element.dataset.tensor}]` : "")
    + ` "${(element.getAttribute("aria-label") ?? element.textContent).trim().slice(0, 25)}"`;

  /** The part of an element that its scrolling ancestors and the window let through. */
  const visible = (element) => {
    let { left, top, right, bottom } = element.getBoundingClientRect();
    for (let parent = element.parentElement; parent; parent = parent.parentElement) {
      const style = getComputedStyle(parent);
      if (style.overflowX === "visible" && style.overflowY === "visible") continue;
      if (parent === document.body || parent === document.documentElement) continue;
      const box = parent.getBoundingClientRect();
      left = Math.max(left, box.left); right = Math.min(right, box.right);
      top = Math.max(top, box.top); bottom = Math.min(bottom, box.bottom);
    }
    return { left, top, right, bottom };
  };
  const isEmpty = (box) => box.right - box.left < 1 || box.bottom - box.top < 1;
  const isFixed = (element) => {
    for (let one = element; one; one = one.parentElement) {
      if (["fixed", "sticky"].includes(getComputedStyle(one).position)) return true;
    }
    return false;
  };

  const faults = [];
  const root = document.scrollingElement;
  const [wide, room] = [root.scrollWidth, root.clientWidth];
  if (wide > room) faults.push(`the page scrolls sideways: ${wide} > ${room}`);
  const elements = [...document.querySelectorAll(interactive)].filter(isShown)
    .map((element) => ({ element, box: visible(element), fixed: isFixed(element) }))
    .filter(({ box }) => !isEmpty(box));

  elements.forEach(({ element, box, fixed }, index) => {
    if (box.left < -1 || box.right > root.clientWidth + 1) faults.push(`${named(element)} leaves the window`);
    for (const other of elements.slice(index + 1)) {
      if (element.contains(other.element) || other.element.contains(element)) continue;
      if (fixed !== other.fixed) continue; // what stays in place while the page scrolls lies over it by intention
      const width = Math.min(box.right, other.box.right) - Math.max(box.left, other.box.left);
      const height = Math.min(box.bottom, other.box.bottom) - Math.max(box.top, other.box.top);
      if (width <= 1 || height <= 1) continue;
      faults.push(`${named(element)} and ${named(other.element)} overlap by ${width} x ${height}`);
    }
  });

  for (const element of document.body.querySelectorAll("*")) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
    if (!hasText || !isShown(element) || element.closest(".visually-hidden, select, svg")) continue;
    const style = getComputedStyle(element);
    if (style.display === "inline") continue;
    const [scrollsX, scrollsY] = [style.overflowX, style.overflowY].map((flow) => ["auto", "scroll"].includes(flow));
    const { scrollWidth, clientWidth, scrollHeight, clientHeight } = element;
    if (!scrollsX && scrollWidth > clientWidth + 1) faults.push(`the text of ${named(element)} is wider than it`);
    if (!scrollsY && scrollHeight > clientHeight + 2) faults.push(`the text of ${named(element)} is higher than it`);
  }
  return faults;
}"""

COVERED = """() => {
  const covered = [];
  for (const element of document.querySelectorAll("a[href], button, input, select, textarea, summary, [role=tab]")) {
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    element.scrollIntoView({ block: "center", inline: "center", behavior: "instant" });
    const { left, right, top, bottom } = element.getBoundingClientRect();
    if (right - left < 1 || bottom - top < 1) continue;
    const found = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
    const label = found?.closest("label");
    const isSame = found && (element.contains(found) || found.contains(element) || label?.control === element);
    if (!isSame) covered.push(`${element.outerHTML.slice(0, 80)} is covered by ${found?.outerHTML.slice(0, 80)}`);
  }
  scrollTo({ top: 0, behavior: "instant" });
  return covered;
}"""


def faults_of(page: Page) -> list[str]:
    """Overlaps, cut text, horizontal scrolling, and controls that something else lies over."""
    faults: list[str] = page.evaluate(FAULTS)
    covered: list[str] = page.evaluate(COVERED)
    return faults + covered
