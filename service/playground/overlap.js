/**
 * The overlap map: how many products reach each cell, forward and backward.
 *
 * The layer itself counts them: with an input and a weight of ones, each product is 1.
 */
import { Panel, counted, tensorFigure } from "./panel.js";
import { axesOf, isSameLayer } from "./picture.js";
import { filled, positionOf, sizeOf } from "./service.js";
import { html, nothing } from "./vendor/lit-html.js";

/** @typedef {import("./service.js").Tensor} Tensor */

/** Layers that compute no sum, and the one over the same windows that does: an average before it is divided. */
const AS_SUMS = { pool: { mode: "avg", divisor_override: 1 } };
const SIZES = [1, 2, 3, 4, 5, 6];

const isPatch = (axis) => axis.includes(" * "); // its channels, each with all taps of the kernel
const isChannel = (axis) => axis.startsWith("C") && !isPatch(axis);

/**
 * How many products reach the cells, and those that lie away from the edges: by a window's extent or more.
 *
 * @param {Tensor} tensor
 * @param {string[]} axes  As `axesOf` of picture.js has them.
 * @param {number[] | null} extents  Of a window, on each spatial axis; null without windows, where indices decide.
 * @returns {{least: number, most: number, inner: number[] | null}}  `inner` are the different numbers, in order; null
 *   without windows.
 */
export function evenness(tensor, axes, extents) {
  const spatial = axes.flatMap((axis, index) => (axis.startsWith("*") ? [index] : []));
  const isInner = (index) => {
    const position = positionOf(tensor.shape, index);
    return spatial.every((axis, at) => {
      const margin = (extents[at] ?? 1) - 1;
      return position[axis] >= margin && position[axis] < tensor.shape[axis] - margin;
    });
  };
  const inner = extents && new Set(tensor.data.filter((_, index) => isInner(index)));
  return {
    least: tensor.data.reduce((one, other) => Math.min(one, other), Infinity),
    most: tensor.data.reduce((one, other) => Math.max(one, other), -Infinity),
    inner: inner && [...inner].sort((one, other) => one - other),
  };
}

/** What is seen, in words. */
export function sentence({ least, most, inner }, spatialAxes) {
  const range = least === most ? `${counted(most, "product")} each` : `${least} to ${counted(most, "product")}`;
  if (!inner) return `${range}.`;
  if (!inner.length) return `${range}. It is too small to have cells away from the edges.`;
  if (inner.length === 1) return `${range}. Even: away from the edges it is always ${inner[0]}.`;
  const listed = `${inner.slice(0, -1).join(", ")} or ${inner.at(-1)}`;
  return `${range}. Uneven: away from the edges it is ${listed}, ${spatialAxes > 1 ? "a checkerboard" : "stripes"}.`;
}

/** The panel of the tab "overlap". */
export class Overlap extends Panel {
  constructor(context) {
    super(context);
    this.kernel = 0; // 0: as in the picture above
    this.stride = 0;
    this.shown = null;
    this.asked = null; // the state that was asked about last
  }

  start() {
    return this.update();
  }

  /** Count again, once there is a picture of what it depends on, if that has changed. */
  async update() {
    const { state, picture } = this.context;
    if (!picture || !isSameLayer(picture.state, state) || (this.asked && isSameLayer(this.asked, state))) return;
    this.asked = state;
    await this.attempt((call) => this.#count(call));
  }

  get #parameters() {
    const { layer, state } = this.context;
    const { properties } = layer.forward.parameters;
    const all = { ...state.parameters, ...AS_SUMS[layer.name] };
    if (this.stride) all.stride = this.stride;
    if (this.kernel && properties.kernel_size) all.kernel_size = this.kernel;
    const applies = ([name]) =>
      Object.entries(properties[name]?.["x-only-with"] ?? {}).every(([other, values]) => values.includes(all[other]));
    return Object.fromEntries(Object.entries(all).filter(applies));
  }

  /** Ones in place of each operand that is needed, of one item and one channel where its numbers are free to change. */
  #operands(parameters) {
    const { layer, state, picture } = this.context;
    const needed = layer.forward.operands.filter(({ required }) => required);
    const isFree = needed.every(({ name }) => name !== "indices");
    const entries = needed.map(({ name, axes }) => {
      const tensor = state.tensors[name];
      if (name === "indices") return [name, tensor];
      const named = axesOf(picture, name);
      const shape = tensor.shape.map((size, axis) => {
        if (isFree && (isChannel(named[axis]) || named[axis] === "N")) return 1;
        if (isPatch(named[axis])) return sizeOf([picture.parameters.kernel_size].flat());
        return this.kernel && named[axis].startsWith("*kernel") ? this.kernel : size;
      });
      return [name, filled(shape, name.endsWith("zero_point") ? 0 : 1, tensor.dtype)];
    });
    if (isFree) delete parameters.groups;
    return Object.fromEntries(entries);
  }

  async #count(call) {
    const { layer } = this.context;
    const parameters = this.#parameters;
    const operands = this.#operands(parameters);
    const shapes = Object.fromEntries(Object.entries(operands).map(([name, { shape }]) => [name, shape]));
    const shape = await call(layer.shapePath, { ...parameters, shapes });
    const { output } = await call(layer.forward.path, { ...parameters, ...operands });
    const maps = { output };
    if (layer.backward) {
      const wrt = layer.backward.parameters.properties.wrt ? { wrt: ["input"] } : {};
      const body = { ...parameters, ...operands, ...wrt, grad_output: filled(output.shape, 1) };
      maps.grad_input = (await call(layer.backward.path, body)).grad_input;
    }
    const spatialAxes = shape.parameters.spatial_axes;
    const counting = { layer, parameters: shape.parameters, spatialAxes, operands, results: maps };
    this.shown = { maps, spatialAxes, axes: {}, extents: extentsOf(counting) };
    for (const name of Object.keys(maps)) this.shown.axes[name] = axesOf(counting, name);
  }

  async #choose(changes) {
    Object.assign(this, changes);
    await this.attempt((call) => this.#count(call));
  }

  template() {
    const { layer } = this.context;
    return html`<div class="overlap">
      <p>
        Each number is how many products reach a cell: what the layer gives where all numbers are one${
          layer.name in AS_SUMS ? html`, summed over the windows of this one` : nothing
        }. Where they are uneven, the result shows it: transposed convolutions draw checkerboards, unless the size of the
        kernel is a multiple of the stride.
      </p>
      <div class="tools">
        ${this.#select("kernel", "Kernel")} ${this.#select("stride", "Stride")}
      </div>
      ${this.alarm()}
      <div class="columns ${this.busy || this.trouble ? "stale" : ""}">
        ${this.shown ? Object.keys(this.shown.maps).map((name) => this.#map(name)) : nothing}
      </div>
    </div>`;
  }

  #select(name, title) {
    const { layer, picture, state } = this.context;
    const { properties } = layer.forward.parameters;
    // patches and indices are those of one kernel and stride
    const isGiven = state.tensors.indices || (picture && axesOf(picture, "input").some(isPatch));
    const has = !isGiven && (properties[name] || (name === "kernel" && (properties.kernel_size || state.tensors.weight)));
    if (!has) return nothing;
    return html`<label>${title}
      <select name=${name} @change=${(event) => this.#choose({ [name]: Number(event.target.value) })}>
        <option value="0" ?selected=${!this[name]}>as above</option>
        ${SIZES.map((size) => html`<option ?selected=${size === this[name]}>${size}</option>`)}
      </select>
    </label>`;
  }

  #map(name) {
    const { maps, axes, spatialAxes, extents } = this.shown;
    const title = name === "output" ? "Forward: into each output cell" : "Backward: into each cell of the input's gradient";
    const words = sentence(evenness(maps[name], axes[name], extents), spatialAxes);
    return html`<section class="overlap-map" data-map=${name} aria-label=${title}>
      ${tensorFigure({ tensor: maps[name], name: `overlap-${name}`, title, axes: axes[name] })}
      <p>${words}</p>
    </section>`;
  }
}

/** How far a window reaches on each spatial axis; null without windows. */
function extentsOf(counting) {
  const { parameters, operands, spatialAxes } = counting;
  if (operands.indices) return null;
  const perAxis = (value) => (Array.isArray(value) ? value : Array(spatialAxes).fill(value ?? 1));
  const axes = operands.weight ? axesOf(counting, "weight") : [];
  const sizes = operands.weight
    ? operands.weight.shape.filter((_, axis) => axes[axis].startsWith("*kernel"))
    : perAxis(parameters.kernel_size);
  return sizes.map((size, axis) => (size - 1) * perAxis(parameters.dilation)[axis] + 1);
}
