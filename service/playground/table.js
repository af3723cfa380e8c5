/** The tab "table": every tensor of the picture as plain tables, in full, to copy and to download. */
import { full, panelsOf } from "./grids.js";
import { times } from "./panel.js";
import { axesOf, tensorOf } from "./picture.js";
import { encodeTensor } from "./service.js";
import { html, nothing } from "./vendor/lit-html.js";

/** @typedef {import("./service.js").Tensor} Tensor */

const MAX_ROWS = 512; // of all tables of one tensor: copies and files have them all
const DESCRIPTIONS = {
  float64: "<f8", float32: "<f4", int8: "|i1", int16: "<i2", int32: "<i4", int64: "<i8",
  uint8: "|u1", uint16: "<u2", uint32: "<u4", uint64: "<u8",
}; // prettier-ignore
const ALIGNMENT = 64;

/** A tensor as the bytes of an npy file, format 1.0. */
export function npyBytes(tensor) {
  const shape = tensor.shape.length === 1 ? `${tensor.shape[0]},` : tensor.shape.join(", ");
  const header = `{'descr': '${DESCRIPTIONS[tensor.dtype]}', 'fortran_order': False, 'shape': (${shape}), }`;
  const length = Math.ceil((10 + header.length + 1) / ALIGNMENT) * ALIGNMENT - 10;
  const start = `\x93NUMPY\x01\x00${String.fromCharCode(length % 256, length >> 8)}${header.padEnd(length - 1)}\n`;
  return Uint8Array.from(start + atob(encodeTensor(tensor).base64), (character) => character.charCodeAt(0));
}

/** A tensor as nested lists; NaN, infinities and -0 as Python's json module reads and writes them. */
export function jsonText({ shape, data }) {
  const nested = (axis, first, size) => {
    if (axis === shape.length) return Object.is(data[first], -0) ? "-0.0" : full(data[first]);
    const part = size / shape[axis];
    return `[${Array.from({ length: shape[axis] }, (_, at) => nested(axis + 1, first + at * part, part)).join(", ")}]`;
  };
  return nested(0, 0, data.length);
}

/** The tables of a tensor: what each shows, and the flat indices of its cells, row by row. */
export function tablesOf(tensor, axes) {
  const items = axes.includes("N") ? tensor.shape[axes.indexOf("N")] : 1;
  return Array.from({ length: items }, (_, item) =>
    panelsOf(axes, tensor.shape, item).map(({ title, rows, columns, index }) => ({
      title: [items > 1 ? `item ${item}` : "", title].filter(Boolean).join(", "),
      rows: Array.from({ length: rows }, (_, row) => Array.from({ length: columns }, (_, column) => index(row, column))),
    })),
  ).flat();
}

/** Tables as tab-separated lines, one after the other with an empty line between. */
export function tsvText(tensor, axes) {
  const lines = (rows) => rows.map((row) => row.map((index) => full(tensor.data[index])).join("\t")).join("\n");
  return tablesOf(tensor, axes).map(({ rows }) => lines(rows)).join("\n\n");
}

/** The panel of the tab "table". */
export class Tables {
  constructor(context) {
    this.context = context;
    this.said = "";
    this.byHand = null; // what the browser did not copy
  }

  async #copy(name, text) {
    this.byHand = null;
    try {
      await navigator.clipboard.writeText(text);
      this.said = `${name} is copied.`;
    } catch {
      // not allowed, or the page is not on https or this machine
      this.byHand = { name, text };
      this.said = `The browser does not let the page copy. Select the text of ${name} and copy it.`;
    }
    this.context.redraw();
  }

  #download(name, tensor) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([npyBytes(tensor)], { type: "application/x-npy" }));
    link.download = `${name}.npy`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href)); // the browser has taken hold of it by then
  }

  template() {
    const { picture } = this.context;
    if (!picture) return nothing;
    const names = Object.keys(picture.operands);
    if (picture.view.startsWith("grad_")) names.push("grad_output");
    return html`<div class="tables">
      <p aria-live="polite">${this.said}</p>
      ${[...names, ...Object.keys(picture.results)].map((name) => this.#section(picture, name))}
    </div>`;
  }

  #section(picture, name) {
    const tensor = tensorOf(picture, name);
    const axes = axesOf(picture, name);
    const what = `${name}, ${times(tensor.shape)}, ${tensor.dtype}`;
    return html`<section class="table-of" data-table=${name} aria-label=${what}>
      <div class="tools">
        <h3>${name}</h3>
        <button type="button" data-copy="tsv" aria-label="Copy ${name} as TSV"
          @click=${() => this.#copy(name, tsvText(tensor, axes))}>Copy as TSV</button>
        <button type="button" data-copy="json" aria-label="Copy ${name} as JSON"
          @click=${() => this.#copy(name, jsonText(tensor))}>Copy as JSON</button>
        <button type="button" data-copy="npy" aria-label="Download ${name} as npy"
          @click=${() => this.#download(name, tensor)}>Download .npy</button>
      </div>
      ${
        this.byHand?.name === name
          ? html`<textarea readonly rows="4" aria-label="text of ${name}" .value=${this.byHand.text}></textarea>`
          : nothing
      }
      <div class="columns">${shownTables(tensor, axes, what)}</div>
    </section>`;
  }
}

function shownTables(tensor, axes, what) {
  let left = MAX_ROWS;
  const tables = tablesOf(tensor, axes);
  const shown = tables.filter(({ rows }) => (left -= rows.length) >= 0 || rows === tables[0].rows);
  return [
    shown.map(({ title, rows }) => plainTable(tensor, rows.slice(0, MAX_ROWS), title ? `${what}: ${title}` : what)),
    shown.length < tables.length
      ? html`<p>${tables.length - shown.length} more tables are not drawn; copies and files have them all.</p>`
      : nothing,
  ];
}

function plainTable({ data }, rows, caption) {
  return html`<div class="wide" tabindex="0" role="group" aria-label=${caption}><table class="plain numbers">
    <caption>${caption}</caption>
    <thead>
      <tr><td></td>${(rows[0] ?? []).map((_, column) => html`<th scope="col">${column}</th>`)}</tr>
    </thead>
    <tbody>
      ${rows.map(
        (row, at) => html`<tr><th scope="row">${at}</th>${row.map((index) => html`<td>${full(data[index])}</td>`)}</tr>`,
      )}
    </tbody>
  </table></div>`;
}
