/**
 * The view "compare": the same call once for each value of a parameter, side by side, by default of the framework.
 *
 * What differs is found by comparing the service's answers: nothing here knows what a parameter means.
 */

import { Panel, counted, listed, same, tensorFigure, times, troubleOf } from "./panel.js";
import { axesOf, isSameLayer } from "./picture.js";
import { filled } from "./service.js";
import { html, nothing } from "./vendor/lit-html.js";

/** @typedef {import("./service.js").Tensor} Tensor */
/**
 * @typedef {object} Column  What the service answers for one value.
 * @property {unknown} value
 * @property {Record<string, unknown>} parameters  All that were used; none if it is refused.
 * @property {Tensor} [tensor]  The result, unless it is refused.
 * @property {string} [trouble]  Why it is refused.
 * @property {boolean} [isOfOnes]  The gradient of its output is all ones.
 */

const FRAMEWORK = "framework";
const RELAYS = ["data_format"]; // parameters with which the operands would have to be other ones
const PAGE = "docs/where-frameworks-disagree.md";

/** Where the page says more about a parameter. */
export const SECTIONS = {
  algorithm: "convolution-and-its-geometry",
  ceil_mode: "pooling-windows",
  count_include_pad: "average-pooling",
  data_format: "defaults",
  dilation: "pooling-windows",
  divisor_override: "average-pooling",
  framework: "defaults",
  groups: "convolution-and-its-geometry",
  index_scheme: "max-pooling",
  kernel_size: "pooling-windows",
  mode: "pooling-windows",
  norm_type: "lp-pooling",
  output_padding: "transposed-convolution",
  output_size: "transposed-convolution",
  padding: "padding-modes",
  padding_mode: "padding-modes",
  return_indices: "max-pooling",
  spatial_axes: "names",
  storage_order: "max-pooling",
  stride: "defaults",
  ties: "max-pooling",
};

/** A value of a parameter as it stands in a request. */
export const written = (value) => (typeof value === "string" ? value : JSON.stringify(value));

/** Schemas that a value may follow. */
const choices = (schema) => (schema.anyOf ? schema.anyOf.flatMap(choices) : [schema]);

/** Whether a parameter applies with the others' values. */
function applies(schema, parameters) {
  return Object.entries(schema["x-only-with"] ?? {}).every(([name, values]) => values.includes(parameters[name]));
}

/**
 * Values that a parameter is compared by; none if it has too many.
 *
 * The enumerations of /ops have other spellings too (tf): those that its description does not name are left out.
 */
export function valuesOf(operation, name) {
  if (name === FRAMEWORK) return Object.keys(operation.framework_defaults);
  const schema = operation.parameters.properties[name];
  const values = choices(schema).flatMap(({ type, enum: listed }) => (type === "boolean" ? [false, true] : (listed ?? [])));
  const named = /one of ([\w, ]+)\./.exec(schema.description ?? "")?.[1].split(", ") ?? values;
  return values.length < 2 ? [] : values.filter((value) => typeof value !== "string" || named.includes(value));
}

/** Names of the parameters that the layer can be compared by. */
export function comparable(operation, parameters) {
  return Object.entries(operation.parameters.properties)
    .filter(([name, schema]) => !RELAYS.includes(name) && applies(schema, parameters) && valuesOf(operation, name).length)
    .map(([name]) => name)
    .sort((one, other) => Number(other === FRAMEWORK) - Number(one === FRAMEWORK));
}

/** Flat indices at which a tensor differs from another one of its shape; null if the shapes differ. */
export function differences(tensor, other) {
  if (times(tensor.shape) !== times(other.shape)) return null;
  return new Set(tensor.data.flatMap((value, index) => (same(value, other.data[index]) ? [] : [index])));
}

/** Parameters that were not the same in all columns, without the compared one. */
export function differing(columns, by) {
  const used = columns.filter((column) => column.parameters).map((column) => column.parameters);
  const names = [...new Set(used.flatMap(Object.keys))].filter((name) => name !== by && name !== FRAMEWORK);
  return names.filter((name) => new Set(used.map((parameters) => JSON.stringify(parameters[name]))).size > 1);
}

/**
 * What is asked for in a state. `state.by` is a parameter, or `parameter:result`, such as `ties:grad_input`.
 *
 * @returns {{layer: object, state: object, given: object, by: string, results: string[], result: string}}  `given` are
 *   the user's parameters; the layout always, because the operands have it whatever the framework.
 */
export function questionOf({ layer, state }) {
  const { forward, backward } = layer;
  const { properties } = forward.parameters;
  const defaults = forward.framework_defaults[state.parameters.framework];
  const given = { data_format: defaults?.data_format ?? properties.data_format.default, ...state.parameters };
  const returned = forward.results.filter((name) => applies(properties[`return_${name}`] ?? {}, given));
  const results = [...returned, ...(backward?.results ?? [])];
  const [by, result] = state.by.split(":");
  return {
    layer,
    state,
    given,
    by: properties[by] && valuesOf(forward, by).length ? by : FRAMEWORK,
    results,
    result: results.includes(result) ? result : results[0],
  };
}

/** The operands of an operation that a state has. */
const operandsFor = (operation, { tensors }) =>
  Object.fromEntries(operation.operands.flatMap(({ name }) => (tensors[name] ? [[name, tensors[name]]] : [])));

/** The sizes of a call and all of its parameters, as the service resolves them. */
function shapeOf(call, { layer, state }, parameters) {
  const shapes = Object.entries(operandsFor(layer.forward, state)).map(([name, { shape }]) => [name, shape]);
  return call(layer.shapePath, { ...parameters, shapes: Object.fromEntries(shapes) });
}

/** The user's gradient of the output, or ones where it does not fit. */
function gradientFor({ tensors }, shape) {
  const given = tensors.grad_output;
  return given && times(given.shape) === times(shape) ? given : null;
}

/** @returns {Promise<Column>} */
async function columnOf(call, question, value) {
  const { layer, state, given, by, result } = question;
  const { forward, backward } = layer;
  const flag = `return_${result}`; // indices are returned on demand
  const asked = forward.parameters.properties[flag] ? { [flag]: true } : {};
  const parameters = { ...given, ...asked, [by]: value };
  const column = { value };
  try {
    const shape = await shapeOf(call, question, parameters);
    column.parameters = shape.parameters;
    if (forward.results.includes(result)) {
      column.tensor = (await call(forward.path, { ...parameters, ...operandsFor(forward, state) }))[result];
    } else {
      const gradient = gradientFor(state, shape.output_shape);
      column.isOfOnes = !gradient;
      const operands = { ...operandsFor(backward, state), grad_output: gradient ?? filled(shape.output_shape, 1) };
      column.tensor = (await call(backward.path, { ...parameters, ...operands }))[result];
    }
  } catch (error) {
    column.trouble = troubleOf(error);
    if (column.trouble === null) throw error;
  }
  return column;
}

/** The value that the user has of the compared parameter, given or not. */
async function ownValue(call, question) {
  const given = question.state.parameters[question.by];
  if (given !== undefined) return given;
  try {
    return (await shapeOf(call, question, question.given)).parameters[question.by] ?? null;
  } catch (error) {
    if (troubleOf(error) === null) throw error;
    return null;
  }
}

/** The panel of the view "compare". */
export class Compare extends Panel {
  constructor(context) {
    super(context);
    /** @type {Column[]} */
    this.columns = [];
    this.first = 0; // the column that the others are compared with
    this.question = null; // what the columns answer
    this.asked = null; // the state that was asked about last
  }

  start() {
    return this.update();
  }

  /** Ask again, if anything has changed that the columns depend on. */
  async update() {
    if (!this.#isOutdated) return;
    const question = questionOf(this.context);
    this.asked = question.state;
    await this.attempt((call) => this.#compare(call, question));
  }

  get #isOutdated() {
    const { state } = this.context;
    return !this.asked || state.by !== this.asked.by || !isSameLayer(state, this.asked);
  }

  async #compare(call, question) {
    const columns = [];
    for (const value of valuesOf(question.layer.forward, question.by)) columns.push(await columnOf(call, question, value));
    const own = written(await ownValue(call, question));
    this.first = Math.max(0, columns.findIndex(({ value }) => written(value) === own));
    [this.columns, this.question] = [columns, question];
  }

  async #choose({ results }, by, result) {
    await this.context.change({ by: result === results[0] ? by : `${by}:${result}` });
    await this.update();
  }

  template() {
    const question = questionOf(this.context);
    const { by, result, results, layer, given } = question;
    const option = (name, chosen) => html`<option ?selected=${name === chosen}>${name}</option>`;
    return html`<div class="compare">
      <div class="tools">
        <label>Compare
          <select name="of" @change=${(event) => this.#choose(question, by, event.target.value)}>
            ${results.map((name) => option(name, result))}
          </select>
        </label>
        <label>by
          <select name="by" @change=${(event) => this.#choose(question, event.target.value, result)}>
            ${comparable(layer.forward, given).map((name) => option(name, by))}
          </select>
        </label>
      </div>
      ${this.alarm()} ${this.question ? this.#answers() : html`<p>Asking the service …</p>`}
    </div>`;
  }

  #answers() {
    const base = this.columns[this.first];
    return html`<p class="compare-summary">${summary(this.columns, base)}</p>
      <div class=${this.busy || this.#isOutdated ? "stale" : ""}>
        <div class="columns">${this.#inputs()}</div>
        <div class="columns compare-columns">${this.columns.map((column) => this.#column(column, base))}</div>
      </div>
      ${this.#defaults()}`;
  }

  /** What all of the calls are given. */
  #inputs() {
    const { layer, state, result } = this.question;
    const { parameters } = this.columns.find((column) => column.parameters) ?? {};
    if (!parameters) return nothing;
    const isForward = layer.forward.results.includes(result);
    return Object.entries(state.tensors)
      .filter(([name]) => !isForward || name !== "grad_output")
      .map(([name, tensor]) => this.#grids(name, tensor, parameters, name));
  }

  #column(column, base) {
    const { by } = this.question;
    const name = by === FRAMEWORK ? column.value : `${by} = ${written(column.value)}`;
    const words = column === base ? "The others are compared with this one." : sentence(column, base, by);
    return html`<section class="compare-column" data-value=${written(column.value)} aria-label=${name}>
      ${column.tensor ? this.#answer(column, base, name) : html`<h3>${name}</h3>`}
      ${column.trouble ? html`<p class="trouble">${column.trouble}</p>` : nothing}
      <p>${words} ${column.isOfOnes ? "Its grad_output is all ones." : ""}</p>
    </section>`;
  }

  #answer({ tensor, parameters }, base, title) {
    const marked = (base.tensor && differences(tensor, base.tensor)) ?? new Set();
    const word = (index) => (marked.has(index) ? "different" : "");
    return this.#grids(this.question.result, tensor, parameters, title, { classOf: word, wordOf: word });
  }

  #grids(name, tensor, parameters, title, marks = {}) {
    const { layer } = this.question;
    const spatialAxes = parameters.spatial_axes;
    const drawn = { layer, parameters, spatialAxes, operands: {}, results: { [name]: tensor }, gradOutput: tensor };
    return tensorFigure({ tensor, name, title, axes: axesOf(drawn, name), ...marks });
  }

  /** The parameters that differ, each with the section that rules it. */
  #defaults() {
    const { by } = this.question;
    const names = differing(this.columns, by);
    const used = this.columns.filter(({ parameters }) => parameters);
    const more = (name) =>
      html`<a href="${PAGE}#${SECTIONS[name] ?? "defaults"}">Where frameworks disagree: ${name}</a>`;
    if (!names.length) return html`<p>${more(by)}</p>`;
    return html`<div class="wide"><table class="plain compare-defaults">
      <caption>Parameters that differ because of ${by}</caption>
      <thead><tr><th scope="col">parameter</th>${used.map(({ value }) => html`<th scope="col">${written(value)}</th>`)}
        <th scope="col">the rule</th></tr></thead>
      <tbody>${names.map(
        (name) => html`<tr><th scope="row">${name}</th>
          ${used.map(({ parameters }) => html`<td>${name in parameters ? written(parameters[name]) : "–"}</td>`)}
          <td>${more(name)}</td></tr>`,
      )}</tbody>
    </table></div>`;
  }
}

/** What is seen in a column, from facts alone. */
export function sentence(column, first, by) {
  if (column === first || !column.tensor || !first.tensor) return "";
  const name = written(column.value);
  const [own, others] = [column.parameters, first.parameters];
  const changed = differing([first, column], by)
    .filter((parameter) => parameter in own && parameter in others)
    .map((parameter) => `${parameter} is ${written(own[parameter])} instead of ${written(others[parameter])}`);
  const why = changed.length ? `: ${listed(changed)}` : "";
  const marked = differences(column.tensor, first.tensor);
  if (!marked) return `${times(column.tensor.shape)} instead of ${times(first.tensor.shape)}${why}.`;
  if (!marked.size) return `The same ${counted(column.tensor.data.length, "number")}${why ? `, although ${listed(changed)}` : ""}.`;
  return `${name} differs in ${marked.size} of ${counted(column.tensor.data.length, "cell")}${why}.`;
}

/** What is seen in all of them. */
export function summary(columns, base) {
  const named = (some) => listed(some.map(({ value }) => written(value)));
  const refused = columns.filter(({ tensor }) => !tensor);
  const answered = columns.filter(({ tensor }) => tensor);
  const last = refused.length ? ` The service refuses ${named(refused)}.` : "";
  if (!base.tensor || answered.length < 2) return `There is nothing to compare.${last}`;
  const others = answered.filter(({ tensor }) => differences(tensor, base.tensor)?.size !== 0);
  const all = `the same ${counted(base.tensor.data.length, "number")} with ${named(answered)}`;
  if (!others.length) return `No difference: ${all}.${last}`;
  return `${named(others)} ${others.length === 1 ? "differs" : "differ"} from ${written(base.value)}.${last}`;
}
