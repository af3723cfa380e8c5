/** Tensors as grids of cells: one grid for each channel and slice, the last two spatial axes across it. */
import { axesOf, itemOffset, linkKey, linksOf, tensorOf } from "./picture.js";
import { flatIndex, positionOf, sizeOf } from "./service.js";
import { html, nothing } from "./vendor/lit-html.js";

const LEVELS = 4; // of the tint on either side of zero

const AXIS_WORDS = { C: "channel", "C/groups": "channel", "*spatial0": "slice", "*kernel0": "slice" };

/** A number as it fits in a cell: integers whole, others to five digits. */
export function short(value) {
  if (Object.is(value, -0)) return "0";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : value < 0 ? "−∞" : "NaN";
  const text = Number.isInteger(value) && Math.abs(value) < 1e7 ? String(value) : String(Number(value.toPrecision(5)));
  return text.replace("-", "−");
}

/** A number in full, as data-value has it and as JSON would. */
export const full = (value) => (Object.is(value, -0) ? "-0" : String(value));

/**
 * The panels of a tensor: which axes run down and across, and the positions on the others.
 *
 * @returns {{title: string, rows: number, columns: number, index: (row: number, column: number) => number}[]}
 */
export function panelsOf(axes, shape, item = 0) {
  const spatial = axes.flatMap((axis, index) => (axis.startsWith("*") ? [index] : []));
  const named = spatial.length ? spatial : axes.flatMap((axis, index) => (axis === "N" ? [] : [index]));
  const [down, across] = named.length > 1 ? named.slice(-2) : [undefined, named[0]];
  // kernels are drawn one after the other, with the channels of each beside one another
  const others = axes
    .map((_, index) => index)
    .filter((index) => index !== down && index !== across && axes[index] !== "N")
    .sort((a, b) => (axes[b] === "C_out") - (axes[a] === "C_out"));
  const word = (axis) =>
    axis === "C_out" ? (axes.includes("*kernel0") ? "kernel" : "channel") : (AXIS_WORDS[axis] ?? axis);
  let positions = [[]];
  for (const axis of others)
    positions = positions.flatMap((before) => Array.from({ length: shape[axis] }, (_, at) => [...before, at]));
  return positions.map((position) => {
    const place = axes.map((axis) => (axis === "N" ? item : 0));
    others.forEach((axis, index) => (place[axis] = position[index]));
    return {
      title: others
        .filter((axis) => shape[axis] > 1)
        .map((axis) => `${word(axes[axis])} ${place[axis]}`)
        .join(", "),
      rows: down === undefined ? 1 : shape[down],
      columns: across === undefined ? 1 : shape[across],
      index(row, column) {
        const at = [...place];
        if (down !== undefined) at[down] = row;
        if (across !== undefined) at[across] = column;
        return flatIndex(shape, at);
      },
    };
  });
}

/** Classes of cells by tensor ("frame" for the padded input) and flat index. */
export class Marks {
  constructor() {
    this.byTensor = new Map();
  }

  add(tensor, index, name) {
    const cells = this.byTensor.get(tensor) ?? this.byTensor.set(tensor, new Map()).get(tensor);
    cells.set(index, `${cells.get(index) ?? ""} ${name}`);
  }

  of(tensor, index) {
    return this.byTensor.get(tensor)?.get(index) ?? "";
  }
}

/** Mark the maxima that receive a gradient, and the cells that tie with them. */
export function markMaxima(picture, marks) {
  if (picture.parameters.mode !== "max") return;
  const input = picture.operands.input.data,
    output = picture.results.output.data;
  const [inputs, outputs] = [itemOffset(picture, "input"), itemOffset(picture, "output")];
  const classes = new Map();
  for (const link of picture.links.all) {
    if (link.input < 0) continue;
    if (link.coefficient !== 0) classes.set(link.input, "max");
    else if (input[link.input + inputs] === output[link.output + outputs] && !classes.has(link.input))
      classes.set(link.input, "tie");
  }
  for (const [index, name] of classes) marks.add("input", index + inputs, name);
}

/** Mark a cell and what is linked with it. */
export function markLinks(picture, cell, marks, isPinned) {
  marks.add(cell.tensor, cell.index, isPinned ? "here pinned" : "here");
  const links = linksOf(picture, cell);
  const names = [
    "output",
    "grad_output",
    "indices",
    "input",
    "grad_input",
    "weight",
    "grad_weight",
    "bias",
    "grad_bias",
  ];
  for (const name of [...names.filter((name) => tensorOf(picture, name)), "frame"]) {
    const offset = name === "frame" ? 0 : itemOffset(picture, name);
    for (const index of new Set(links.map((link) => link[linkKey(name, picture)])))
      if (index >= 0) marks.add(name, index + offset, "lit");
  }
}

/** The largest finite absolute value, which has the strongest tint. */
export const largest = (data) =>
  data.reduce((most, value) => (Math.abs(value) > most && Number.isFinite(value) ? Math.abs(value) : most), 0);

function tint(value, most) {
  if (!Number.isFinite(value) || !most) return "";
  const level = Math.round((value / most) * LEVELS);
  return level ? ` tint${level < 0 ? "-minus" : ""}-${Math.abs(level)}` : "";
}

/**
 * A tensor of the picture.
 *
 * @param {{name: string, title: string, marks: Marks, isEditable?: boolean, editing?: {tensor: string, index: number} | null,
 *   here?: {tensor: string, index: number} | null, hidesNumbers?: boolean}} options
 */
export function tensorGrids(picture, { name, title, ...options }) {
  const tensor = tensorOf(picture, name);
  const frame = name === "input" ? picture.frame : null;
  const shown = frame?.tensor ?? tensor;
  const panels = panelsOf(axesOf(picture, name), shown.shape, frame ? 0 : picture.item);
  const most = largest(tensor.data);
  const offset = frame ? itemOffset(picture, "input") : 0;
  const cellOf = (index) => {
    if (!frame) return { tensor: name, index, value: tensor.data[index] };
    const source = frame.source[index];
    return frame.kind[index] !== "input"
      ? { tensor: "frame", index, value: shown.data[index], source }
      : { tensor: name, index: source + offset, frame: index, value: tensor.data[source + offset] };
  };
  return html`<figure class="tensor" data-name=${name}>
    <figcaption><b>${title}</b> <span class="shape">${tensor.shape.join(" × ") || "one value"}</span></figcaption>
    <div class="panels">${panels.map((panel) => grid(picture, panel, { name, title, cellOf, most, ...options }))}</div>
  </figure>`;
}

/**
 * Numbers as one grid, for pictures of their own (compare, learn): `values` in C order. A cell's number in its tensor is
 * `indexOf` its number in the grid; classes, and words for who does not see them, go by that.
 */
export function plainGrid({
  name,
  label,
  rows,
  columns,
  values,
  most = largest(values),
  indexOf = (cell) => cell,
  classOf = () => "",
  wordOf = () => "",
}) {
  const cell = (at) => {
    const [index, value] = [indexOf(at), values[at]];
    const word = wordOf(index);
    return html`<td
      role="gridcell"
      tabindex=${at ? -1 : 0}
      data-index=${index}
      data-value=${full(value)}
      class="${classOf(index)}${tint(value, most)}"
    >
      ${short(value)}${word ? html`<span class="for-screen-readers">, ${word}</span>` : nothing}
    </td>`;
  };
  const range = (count) => Array.from({ length: count }, (_, index) => index);
  return html`<table role="grid" aria-label=${label} data-tensor=${name}>
    <tbody>
      ${range(rows).map(
        (row) =>
          html`<tr role="row">
            ${range(columns).map((column) => cell(row * columns + column))}
          </tr>`,
      )}
    </tbody>
  </table>`;
}

function grid(picture, panel, options) {
  const { name, title, cellOf, tabStop } = options;
  const range = (count) => Array.from({ length: count }, (_, index) => index);
  const rows = range(panel.rows).map((row) => range(panel.columns).map((column) => cellOf(panel.index(row, column))));
  const isStop = (cell) => tabStop?.tensor === cell.tensor && tabStop.index === cell.index;
  const stop = rows.flat().find(isStop) ?? rows[0]?.[0]; // each grid is one stop of the Tab key
  const label = [title, panel.title].filter(Boolean).join(", ");
  return html`<div class="panel">
    ${panel.title ? html`<div class="panel-title">${panel.title}</div>` : nothing}
    <table role="grid" aria-label=${label} data-tensor=${name} aria-readonly=${!options.isEditable}>
      <tbody>
        ${rows.map(
          (cells, row) =>
            html`<tr role="row">
              ${cells.map((cell, column) => cellTemplate(picture, cell, { ...options, row, column, isStop: cell === stop }))}
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

function cellTemplate(picture, cell, { row, column, marks, most, isEditable, editing, isStop, hidesNumbers }) {
  const { index } = cell;
  const isOfPadding = cell.tensor === "frame";
  const [own, ofFrame] = [marks.of(cell.tensor, index), cell.frame === undefined ? "" : marks.of("frame", cell.frame)];
  // a cell that is used where the padding repeats it, and not where it stands
  const isSource = cell.frame !== undefined && own.includes("lit") && !ofFrame.includes("lit") && !own.includes("here");
  const classes = [
    own,
    isSource ? "source" : ofFrame,
    isOfPadding ? paddingClass(picture, cell) : tint(cell.value, most),
  ].join(" ");
  const isEdited = editing && editing.tensor === cell.tensor && editing.index === index;
  const text = isOfPadding && showsNothing(picture) ? "" : hidesNumbers ? "?" : short(cell.value);
  const where = `row ${row}, column ${column}${isOfPadding ? ", padding" : ""}`;
  const content = isEdited
    ? html`<input class="editor" aria-label="new value, ${where}" .value=${full(cell.value)} />`
    : text;
  return html`<td
    role="gridcell"
    class=${classes}
    tabindex=${isStop ? 0 : -1}
    data-index=${isOfPadding ? nothing : index}
    data-frame=${isOfPadding ? index : (cell.frame ?? nothing)}
    data-value=${hidesNumbers ? nothing : full(cell.value)}
    aria-label="${where}: ${text || "nothing"}"
    aria-readonly=${isOfPadding || !isEditable}
  >
    ${content}
  </td>`;
}

/** Only a layer with a weight multiplies its padding: what a pool has there, if anything, is no number of the sum. */
const showsNothing = (picture) => !picture.operands.weight;

function paddingClass(picture, { index, source }) {
  return `padding ${picture.frame.kind[index] === "overhang" ? "overhang" : source < 0 ? "zeros" : "copy"}`;
}
