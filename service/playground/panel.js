/**
 * What the panels that are loaded when they are opened have in common: calls that end with the panel, and trouble said.
 */

import { largest, panelsOf, plainGrid } from "./grids.js";
import { MAX_CELLS } from "./picture.js";
import { Problem, Unreachable } from "./service.js";
import { html, nothing } from "./vendor/lit-html.js";

/** @typedef {import("./service.js").Tensor} Tensor */

/** A shape or a part of one as a person writes it. */
export const times = (sizes) => (sizes.length ? sizes.join(" × ") : "one value");

/** `one window`, `3 windows`. */
export const counted = (count, noun, plural = `${noun}s`) => `${count} ${count === 1 ? noun : plural}`;

/** `a`, `a and b`, `a, b and c`. */
export function listed(words) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

/** The same number twice; NaN is the same as NaN. */
export const same = (one, other) => one === other || (Number.isNaN(one) && Number.isNaN(other));

/**
 * A tensor as grids, one for each channel and slice of each item.
 *
 * @param {{tensor: Tensor, name: string, title: unknown, axes: string[], classOf?: (index: number) => string,
 *   wordOf?: (index: number) => string}} options  Axes as `axesOf` of picture.js has them.
 */
export function tensorFigure({ tensor, name, title, axes, ...options }) {
  const items = axes.includes("N") ? tensor.shape[axes.indexOf("N")] : 1;
  const most = largest(tensor.data);
  const panels = Array.from({ length: items }, (_, item) =>
    panelsOf(axes, tensor.shape, item).map((panel) => ({
      ...panel,
      title: [items > 1 ? `item ${item}` : "", panel.title].filter(Boolean).join(", "),
    })),
  ).flat();
  const gridOf = ({ title: part, rows, columns, index }) => {
    const indices = Array.from({ length: rows * columns }, (_, at) => index(Math.floor(at / columns), at % columns));
    const values = indices.map((at) => tensor.data[at]);
    const label = [name, part].filter(Boolean).join(", ");
    return html`<div class="panel">
      ${part ? html`<div class="panel-title">${part}</div>` : nothing}
      ${plainGrid({ name, label, rows, columns, values, most, indexOf: (at) => indices[at], ...options })}
    </div>`;
  };
  const count = tensor.data.length;
  return html`<figure class="tensor">
    <figcaption><b>${title}</b> <span class="shape">${times(tensor.shape)}</span></figcaption>
    ${
      count > MAX_CELLS
        ? html`<p class="too-large">${count} numbers: more than ${MAX_CELLS} are not drawn.</p>`
        : html`<div class="panels">${panels.map(gridOf)}</div>`
    }
  </figure>`;
}

/** What went wrong with a call, in a sentence; null if it is no trouble of the service's but a fault of the page. */
export function troubleOf(error) {
  if (error instanceof Problem) return error.errors[0]?.message ?? error.message;
  if (error instanceof Unreachable) return `The service cannot be reached. ${error.message}`;
  return null;
}

/** Base of the panels. `work` that is no longer wanted is dropped: the newest attempt wins. */
export class Panel {
  constructor(context) {
    this.context = context;
    this.trouble = "";
    this.busy = false;
    this.controller = new AbortController();
  }

  /**
   * Run what calls the service, draw while it runs and after it.
   *
   * @param {(call: (path: string, body: object) => Promise<Record<string, any>>) => Promise<void>} work
   */
  async attempt(work) {
    this.controller.abort();
    const { signal } = (this.controller = new AbortController());
    this.trouble = "";
    this.busy = true;
    try {
      await work((path, body) => this.context.service.call(path, body, signal));
    } catch (error) {
      if (signal.aborted) return;
      this.trouble = troubleOf(error);
      if (this.trouble === null) throw error;
    } finally {
      if (!signal.aborted) {
        this.busy = false;
        this.context.redraw();
      }
    }
  }

  /** The trouble, where there is one. */
  alarm() {
    return this.trouble ? html`<p class="trouble" role="alert">${this.trouble}</p>` : nothing;
  }

  /** The panel is closed: nothing that it asked for is wanted any more. */
  stop() {
    this.controller.abort();
  }
}
