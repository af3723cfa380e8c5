/** What the visitor does with pointer and keyboard. */
import { viewsOf } from "./picture.js";

/** The cell of a grid that an element is or lies in. */
function cellAt(element) {
  const cell = element?.closest?.("#picture [role=gridcell]");
  if (!cell) return null;
  if (cell.dataset.index === undefined) return { tensor: "frame", index: Number(cell.dataset.frame) };
  return { tensor: cell.closest("table").dataset.tensor, index: Number(cell.dataset.index) };
}

/** Whether two cells are the same. */
export const isSame = (one, other) => one?.tensor === other?.tensor && one?.index === other?.index;

/** Have a page follow pointer and keyboard. */
export function listen(page) {
  const { root } = page;
  const hover = (cell) => {
    if (isSame(page.hovered, cell)) return;
    page.hovered = cell;
    page.draw();
  };
  root.addEventListener("pointerover", (event) => {
    const cell = cellAt(event.target);
    if (event.pointerType !== "touch") hover(cell);
    if (cell && page.isPainting && event.buttons) page.paint(cell);
  });
  root.addEventListener("pointerdown", (event) => {
    const cell = cellAt(event.target);
    if (cell && page.isPainting) page.paint(cell);
  });
  root.addEventListener("click", (event) => {
    const cell = cellAt(event.target);
    if (cell && !page.isPainting && !event.target.closest(".editor")) page.pin(cell);
  });
  root.addEventListener("dblclick", (event) => {
    const cell = cellAt(event.target);
    if (cell) page.edit(cell);
  });
  root.addEventListener("focusin", (event) => {
    const cell = cellAt(event.target);
    if (!cell || isSame(page.focused, cell)) return;
    page.focused = cell;
    page.say();
    page.draw();
  });
  root.addEventListener("focusout", (event) => {
    if (event.target.matches(".editor")) page.finishEditing(event.target.value);
  });
  root.addEventListener("keydown", (event) => {
    if (event.target.matches(".editor")) editorKey(page, event);
    else if (cellAt(event.target)) gridKey(page, event);
    else if (event.target.matches("[role=gridcell]")) moveInGrid(event);
    else if (event.target.matches("[role=tab]")) tabKey(event);
  });
  document.addEventListener("keydown", (event) => pageKey(page, event));
  addEventListener("hashchange", () => page.layers.length && page.open(location.hash));
  addEventListener("online", () => page.isUnreachable && page.refresh());
}

function editorKey(page, event) {
  const cell = page.editing;
  if (event.key === "Enter" || event.key === "F2") page.finishEditing(event.target.value);
  else if (event.key === "Escape") [page.editing] = [null];
  else return;
  event.stopPropagation();
  page.draw();
  focusCell(page, cell);
}

function focusCell(page, { tensor, index }) {
  page.root.querySelector(`[data-tensor="${tensor}"] [data-index="${index}"]`)?.focus();
}

/** Follow the keys that move in a grid; returns whether this was one. */
function moveInGrid(event) {
  const cell = event.target.closest("[role=gridcell]");
  const row = cell.parentElement,
    rows = row.parentElement.rows;
  const [down, across] = [row.sectionRowIndex, cell.cellIndex];
  const target = {
    ArrowLeft: () => row.cells[across - 1],
    ArrowRight: () => row.cells[across + 1],
    ArrowUp: () => rows[down - 1]?.cells[across],
    ArrowDown: () => rows[down + 1]?.cells[across],
    Home: () => (event.ctrlKey ? rows[0] : row).cells[0],
    End: () => [...(event.ctrlKey ? rows[rows.length - 1] : row).cells].at(-1),
  }[event.key];
  if (!target) return false;
  target()?.focus();
  event.preventDefault();
  return true;
}

function gridKey(page, event) {
  if (moveInGrid(event)) return;
  const cell = event.target.closest("[role=gridcell]");
  if (event.key === "Enter" || event.key === " ") page.pin(cellAt(cell));
  else if (event.key === "F2") page.edit(cellAt(cell));
  else return;
  event.preventDefault();
}

function tabKey(event) {
  const tabs = [...event.target.closest("[role=tablist]").querySelectorAll("[role=tab]")];
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  tabs[(tabs.indexOf(event.target) + step + tabs.length) % tabs.length].focus();
  event.preventDefault();
}

function pageKey(page, event) {
  if (!page.state || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea"))
    return;
  const view = /^[1-9]$/.test(event.key) && viewsOf(page.layer)[event.key - 1];
  if (view) page.change({ view }, true);
  else if (event.key === "Escape") {
    if (page.pinned) page.pin(null);
    else if (page.isDrawerOpen) page.toggleDrawer();
    else if (page.state.present) page.change({ present: false });
  } else if (page.state.present && ["PageDown", "PageUp"].includes(event.key))
    page.step(event.key === "PageDown" ? 1 : -1);
  else if (page.state.present && [".", "b"].includes(event.key)) document.documentElement.classList.toggle("blank");
  else return;
  event.preventDefault();
}
